#!/usr/bin/python
"""Write or verify the manifest of artifacts (Ansible module)."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: artifact_manifest
short_description: Write or verify the manifest and SHA256SUMS of a model's artifacts
description:
  - With O(state=present), hashes the files that I(manifest) lists, and when they are what it says
    writes C(MODEL.manifest.json), and C(MODEL.SHA256SUMS) for C(sha256sum -c) or certutil, beside
    them. What versions before left there for this model under plain names (C(manifest.json),
    C(SHA256SUMS), C(golden.npz), C(verdict.json)) goes.
  - With O(state=verified), hashes the files again and fails with every mismatch at once. A
    C(MODEL.SHA256SUMS) or C(SHA256SUMS) beside them must say the same as the manifest.
  - Needs nothing but Python's standard library.
version_added: "0.1.0"
options:
  path:
    description: The folder that holds the artifacts.
    type: path
    required: true
  state:
    description: Whether to write the manifest or to verify the files against it.
    type: str
    choices: [present, verified]
    default: present
  manifest:
    description:
      - The manifest, as M(onnx_quantize) returns it. Required with O(state=present).
      - With O(state=verified) it defaults to the C(MODEL.manifest.json) in I(path), or to a
        C(manifest.json) of this model.
    type: dict
  places:
    description: Folders that the files may have been moved to, each with the releases in it, when
      they are not in O(path).
    type: list
    elements: str
    default: []
  name:
    description: The name of the model, for O(state=verified) without a manifest; by default that of
      the only one there.
    type: str
attributes:
  check_mode:
    description: In check mode files that are not there yet are not held against the manifest.
    support: full
  diff_mode:
    description: Shows the text of both files.
    support: full
author:
  - The SARAi model operations team
"""

EXAMPLES = r"""
- name: Write the manifest of what was quantized
  artifact_manifest:
    path: /srv/models
    manifest: "{{ __quantize_result.manifest }}"

- name: Verify the artifacts on the target
  artifact_manifest:
    path: /home/noel/SARAi_v2/models/onnx/.incoming
    name: agi_audio_core
    state: verified
"""

RETURN = r"""
manifest:
  description: The manifest.
  returned: success
  type: dict
release_id:
  description: The id of the release.
  returned: success
  type: str
folder:
  description: The folder that the artifacts stand in.
  returned: success
  type: str
signature:
  description: The signature that lies beside the manifest's file; empty without one.
  returned: success, for O(state=verified)
  type: str
files:
  description: A row a file with name, ok, problem, size in bytes and sha256.
  returned: always
  type: list
  elements: dict
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.modelops.base import opener
from ansible.module_utils.modelops.base.errors import ModelOpsError
from ansible.module_utils.modelops.base.files import remove, write_atomic
from ansible.module_utils.modelops.execution.module_result import conclude
from ansible.module_utils.modelops.pair import manifest as manifests
from ansible.module_utils.modelops.pair import names, signed

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE: dict[str, Any] = {
    "argument_spec": {
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
        "manifest": {"type": "dict"},
        "places": {"type": "list", "elements": "str", "default": []},
        "name": {"type": "str"},
    },
    "required_if": [("state", "present", ["manifest"])],
    "supports_check_mode": True,
}


def run(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Write or verify as the parameters say; the result is the module's."""
    folder = Path(params["path"])
    signature = ""
    if params["manifest"] is None:
        file = manifests.find(folder, params["name"])
        manifest, signature = manifests.load(file), signed.beside(file)
    else:
        manifest = manifests.check(params["manifest"], where="option manifest")
    artifacts = manifest["artifacts"]
    golden = [entry for entry in manifests.files(manifest) if entry not in artifacts]
    places = [Path(place) for place in params["places"]]
    found, kept = (
        (places and manifests.standing(folder, places, files)) or folder
        for files in (artifacts, golden)
    )
    rows = manifests.verify(found, artifacts) + manifests.verify(kept, golden)
    future = check_mode and params["state"] == "present"
    problems = [f"{folder / row['name']}: {row['problem']}" for row in rows if not row["ok"]]
    if params["state"] == "verified":
        problems += manifests.sums_problems(folder, manifests.files(manifest))
    if problems and not future:
        raise ModelOpsError(
            "the artifacts are not what the manifest says: " + "; ".join(problems),
            where=folder,
            remedy="Quantize or transfer them again.",
            files=rows,
            problems=problems,
        )
    result: dict[str, Any] = {
        "changed": False,
        "manifest": manifest,
        "release_id": manifest["release_id"],
        "folder": str(found),
        "files": rows,
    }
    if params["state"] == "verified":
        return {**result, "signature": signature}
    _write(folder, manifest, check_mode, result)
    return result


def _write(
    folder: Path, manifest: dict[str, Any], check_mode: bool, result: dict[str, Any]
) -> None:
    called = names.of(names.model_of(manifest["artifacts"]))
    wanted = {
        called.sums: manifests.sums(manifests.files(manifest)).encode(),
        called.manifest: manifests.dump(manifest),
    }
    for name, content in wanted.items():
        path = folder / name
        before = opener.read(path, opener.LARGEST_JSON) if path.exists() else None
        if before == content or (name == called.manifest and _is_signed(before, manifest)):
            continue
        result["changed"] = True
        result.setdefault("diff", []).append(
            {
                "before_header": str(path),
                "after_header": str(path),
                "before": (before or b"").decode(errors="replace"),
                "after": content.decode(),
            }
        )
        if not check_mode:
            write_atomic(path, content)
    for path in manifests.plain_files(folder, called.model):
        result["changed"] = True
        if not check_mode:
            remove(path)


def _is_signed(before: bytes | None, manifest: dict[str, Any]) -> bool:
    """Tell whether a file holds this very manifest, signed by hand since."""
    try:
        return signed.without(opener.parsed(before or b"{}")) == manifest
    except (ValueError, AttributeError):
        return False


def main() -> None:
    """Run under Ansible."""
    from ansible.module_utils.basic import AnsibleModule

    conclude(AnsibleModule(**MODULE), run)


if __name__ == "__main__":
    main()
