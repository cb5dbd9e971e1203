#!/usr/bin/python
"""Stage, activate, commit, revert and roll back releases of a model (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: model_release
short_description: Stage, activate, commit, revert and roll back releases of a model
description:
  - Works on the folder of the models on a target, with the target's own Python and its standard
    library only. One call is one step of a release.
  - Every step that moves something writes first what it is about to do. A step that was killed at
    any point is undone by the next call. At every instant the configuration names a model whose
    graph and data are both there and belong together.
  - What a version before kept in C(.releases) itself becomes the folder of its model there, by the
    first call that changes anything.
  - The FP32 files are never written and never deleted.
version_added: "0.1.0"
options:
  root:
    description: The folder of the models.
    type: path
    required: true
  name:
    description: The name of the model, without C(.onnx) and C(_int8).
    type: str
    default: agi_audio_core
  state:
    description:
      - V(query) tells the state and what is wrong, and changes nothing.
      - V(recovered) undoes a move that was interrupted, and then tells what V(query) tells.
      - V(staged) verifies transferred artifacts by SHA-256 and makes them a release.
      - V(active) makes a release the live one and lets the configuration name it. It leaves
        C(.releases/NAME/revert.pyz), with which the target can revert by itself.
      - V(armed) writes the same program to O(program), where nobody but root can change it.
        Nothing else is touched, and no lock is needed.
      - V(committed) says that it stays. V(reverted) undoes it.
      - V(rolled_back) goes to FP32, to the last good release or to a named one.
      - V(pruned) removes releases that nobody needs.
    type: str
    choices:
      - query
      - recovered
      - staged
      - active
      - armed
      - committed
      - reverted
      - rolled_back
      - pruned
    default: query
  token:
    description:
      - The token of the run that holds the lock (see M(host_lock)). Without it nothing but
        V(query) and check mode do anything.
    type: str
    default: ""
  release:
    description: The id of the release, for V(staged), V(active) and V(committed).
    type: str
  manifest:
    description:
      - The manifest of the release that the run is about, as the controller knows it. What the
        target keeps of that release counts only where it says the same, and its files are compared
        with this one. V(query) and V(recovered) then tell RV(lacking).
      - V(staged) makes a release of it.
    type: dict
  hashed:
    description:
      - What an earlier call of this run returned as RV(hashed). A file that is unchanged since is
        not hashed again.
    type: dict
    default: {}
  incoming:
    description: The folder that V(staged) takes the artifacts from, by default
      C(.incoming/RELEASE).
    type: path
  config:
    description:
      - The planned change of the configuration, for V(active), V(reverted) and V(rolled_back).
        C(path); C(sha256) of the file as it was planned on, empty when it must not exist;
        C(fp32) and C(int8), lists of edits (offset in bytes, old, new), C(int8) V(null) where the
        file must not name INT8; C(content) of a new file. C(unreadable) in place of the edits says
        why none could be planned. V(reverted) and V(rolled_back) then take the text of the last
        activation, and keep the file as it was under another name.
    type: dict
  previous:
    description: The owner's values from before INT8, kept in the state for a revert or a rollback.
    type: dict
    default: {}
  confirm_s:
    description: Seconds until an activation without a commit counts as lost.
    type: int
    default: 1800
  watch:
    description:
      - For V(active), where no timer of systemd can revert - a process on the host that does so
        after O(confirm_s) and restarts the service. C(name) and C(commands), as M(service_health)
        takes them. Empty starts none.
    type: dict
    default: {}
  program:
    description: The file that V(armed) writes. Its folders belong to root.
    type: path
  by:
    description: Who does it, for the history.
    type: str
    default: ""
  reason:
    description: Why, for the history, for V(committed) the verdict.
    type: str
    default: ""
  void:
    description: Never activate the release again that V(reverted) or V(rolled_back) leaves.
    type: bool
    default: false
  unvoid:
    description: Let V(active) take a void release.
    type: bool
    default: false
  to:
    description: Where V(rolled_back) goes. C(fp32), C(last_good) or the id of a release.
    type: str
    default: fp32
  recorded:
    description:
      - For V(rolled_back) - the SHA-256 of the manifests that the controller recorded, a list for
        each release. What the target keeps of such a release must be one of them.
    type: dict
    default: {}
  only_from:
    description: Let V(rolled_back) change nothing unless this release is active.
    type: str
  keep:
    description: How many releases V(pruned) keeps beside those that are needed.
    type: int
    default: 1
  verify:
    description: Let V(query) compare SHA-256, not sizes only.
    type: bool
    default: false
extends_documentation_fragment:
  - trust
attributes:
  check_mode:
    description: Tells the moves that a real run makes.
    support: full
  diff_mode:
    description: Shows the change of the configuration.
    support: full
author:
  - The SARAi model operations team
seealso:
  - module: artifact_manifest
"""

EXAMPLES = r"""
- name: Make transferred artifacts a release
  model_release:
    root: /home/noel/SARAi_v2/models/onnx
    state: staged
    release: 3f0a9c1d22b45e67
    manifest: "{{ __quantize_manifest }}"

- name: Ask what is in service
  model_release:
    root: /home/noel/SARAi_v2/models/onnx
    state: query
    verify: true
"""

RETURN = r"""
state:
  description: The state after the step.
  returned: success
  type: dict
moved:
  description: The steps that were done, or that check mode would do.
  returned: success, for steps that change something
  type: list
  elements: str
notes:
  description: What the owner should know of it, a sentence or two each.
  returned: success, for steps that change something
  type: list
  elements: str
written:
  description: Whether the configuration, read again, has the text that was planned for it.
  returned: for V(active), V(reverted) and V(rolled_back)
  type: bool
kind:
  description: What the release in service is, C(INT8), C(FP16) or C(INT4), as its manifest here
    says. C(release) where that says nothing of it; empty on FP32.
  returned: for V(query) and V(recovered)
  type: str
whole:
  description: The releases whose artifacts are right, live or staged.
  returned: for V(query) and V(recovered)
  type: list
  elements: str
lacking:
  description: The files of O(manifest) that are not here, or not right.
  returned: for V(query) and V(recovered)
  type: list
  elements: str
hashed:
  description: The files that were hashed and are right, for O(hashed) of a later call.
  returned: for V(query) and V(recovered)
  type: dict
problems:
  description: What is wrong on the target.
  returned: for V(query) and V(recovered)
  type: list
  elements: str
free_bytes:
  description: Free bytes of the disk.
  returned: for V(query) and V(recovered)
  type: int
serial:
  description: The highest serial of a signed release that came in here, 0 before the first; none
    where this target asks for no signature.
  returned: for V(query) and V(recovered)
  type: int
lock:
  description: The lock of a run, if there is one.
  returned: for V(query) and V(recovered)
  type: dict
mismatched:
  description: The files to send again.
  returned: when V(staged) fails
  type: list
  elements: str
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.execution import options
from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import received
from ansible.module_utils.modelops.signing.trust import Trust
from ansible.module_utils.modelops.target import (
    activation,
    change,
    operations,
    rollback,
    run_lock,
    self_revert,
    takeover,
    watcher,
)
from ansible.module_utils.modelops.target.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

STATES = [
    "query", "recovered", "staged", "active", "armed", "committed", "reverted", "rolled_back",
    "pruned",
]  # fmt: skip
MODULE: dict[str, Any] = {
    "argument_spec": {
        "root": {"type": "path", "required": True},
        "name": {"type": "str", "default": "agi_audio_core"},
        "state": {"type": "str", "choices": STATES, "default": "query"},
        "token": {"type": "str", "default": "", "no_log": False},
        "release": {"type": "str"},
        "manifest": {"type": "dict"},
        "hashed": {"type": "dict", "default": {}},
        "incoming": {"type": "path"},
        "config": {"type": "dict"},
        "previous": {"type": "dict", "default": {}},
        "confirm_s": {"type": "int", "default": 1800},
        "watch": {"type": "dict", "default": {}},
        "program": {"type": "path"},
        "by": {"type": "str", "default": ""},
        "reason": {"type": "str", "default": ""},
        "void": {"type": "bool", "default": False},
        "unvoid": {"type": "bool", "default": False},
        "to": {"type": "str", "default": "fp32"},
        "recorded": {"type": "dict", "default": {}},
        "only_from": {"type": "str"},
        "keep": {"type": "int", "default": 1},
        "verify": {"type": "bool", "default": False},
        **options.TRUST,
    },
    "required_if": [
        ("state", "staged", ["release", "manifest"]),
        ("state", "active", ["release", "config"]),
        ("state", "armed", ["program"]),
        ("state", "committed", ["release"]),
        ("state", "rolled_back", ["config"]),
    ],
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do the step that the parameters name; the result is the module's."""
    for release in (params["release"], params["only_from"]):
        if release:
            received.release_id(release)
    root, state = Path(params["root"]), params["state"]
    if state == "armed":
        return self_revert.place(Path(params["program"]), check_mode)
    store, lock = _store(params), run_lock.place(root, params["name"])
    if state == "query":
        found = operations.query(store, params["verify"])
        return {"changed": False, "lock": run_lock.told(run_lock.holder(lock)), **found}
    if check_mode:
        taken = takeover.take_over(root, store.name, check_mode=True)
        return _with(taken, _change(store, params, check_mode))
    with change.alone(store, params["config"]):
        run_lock.hold(lock, params["token"])
        taken = takeover.take_over(root, store.name)
        if taken:
            # The timer of the version before may be armed, and runs the archive from there.
            self_revert.write(root / takeover.RELEASES / self_revert.NAME)
        return _with(taken, _change(_store(params), params, check_mode))


def _store(params: Mapping[str, Any]) -> Store:
    root, name, listed, hashed = (params[key] for key in ("root", "name", "manifest", "hashed"))
    trust, signature, recorded = Trust.of(params), params["signature"], params["recorded"]
    return Store(Path(root), name, listed, hashed, trust, signature, recorded)


def _with(taken: list[str], result: dict[str, Any]) -> dict[str, Any]:
    """Tell of what was taken over, too."""
    if not taken:
        return result
    return {**result, "changed": True, "moved": [*taken, *result.get("moved", [])]}


def _change(store: Store, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    state, wanted, config = params["state"], params["release"], params["config"]
    if state == "recovered":
        undone = change.recover(store, check_mode) or {"changed": False}
        return {
            **undone,
            "lock": run_lock.told(run_lock.holder(run_lock.place(store.root, store.name))),
            **operations.query(store, params["verify"]),
        }
    who = {"by": params["by"], "check_mode": check_mode}
    if state == "staged":
        incoming = Path(params["incoming"] or store.incoming / wanted)
        return operations.stage(store, wanted, params["manifest"], incoming, check_mode=check_mode)
    if state == "active":
        if not check_mode:
            self_revert.write(store.releases / self_revert.NAME)
            store.keep_room()
            if params["watch"]:
                watcher.start(store, self_revert.NAME, params["watch"], params["confirm_s"])
        return activation.activate(
            store, wanted, config, previous=params["previous"], confirm_s=params["confirm_s"],
            unvoid=params["unvoid"], **who,
        )  # fmt: skip
    if state == "committed":
        return activation.commit(store, wanted, verdict=params["reason"], **who)
    back = {"reason": params["reason"], "void": params["void"], **who}
    if state == "reverted":
        return activation.revert(store, config, **back)
    if state == "rolled_back":
        return rollback.roll_back(
            store, params["to"], config, only_from=params["only_from"], **back
        )
    return operations.prune(store, params["keep"], check_mode=check_mode)


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
