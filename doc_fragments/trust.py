"""The options of every module that asks a target whether it lets a release in."""


class ModuleDocFragment:
    """Their specs: modelops.execution.options.TRUST."""

    DOCUMENTATION = r"""
options:
  signature:
    description: The signature of O(manifest), as M(release_sign) returns it; empty without one.
    type: str
    default: ""
  require_signature:
    description: Refuse an unsigned release also where O(trust_dir) has no C(allowed_signers).
    type: bool
    default: false
  replay:
    description: The id of a release that may come back although one with a higher serial was
      accepted.
    type: str
    default: ""
  trust_dir:
    description:
      - The folder of C(allowed_signers) and C(revoked_keys), where root alone may write.
      - Where it has an C(allowed_signers) every release needs a signature by one of these keys.
    type: path
    default: /etc/modelops
  serials_dir:
    description: The folder of the highest serial that was accepted of each model.
    type: path
    default: /var/lib/modelops
"""
