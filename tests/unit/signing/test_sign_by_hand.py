"""What a person brings: signed in its folder, found again, and left signed by the builder's run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from modelops.base.errors import ModelOpsError
from modelops.execution import cli, without_ansible
from modelops.pair import manifest, signed
from signer import Controller
from target import Target


@pytest.fixture
def folder(tmp_path) -> Path:
    """A pair with its manifest, as it was copied from the builder."""
    target = Target(tmp_path / "target")
    listed = target.arrive("A")
    folder = target.store.incoming / listed["release_id"]
    (folder / "m.manifest.json").write_bytes(manifest.dump(listed))
    return folder


def sign(folder: Path, key: Path, *more: str) -> int:
    return cli.main(["sign", str(folder), "--name", "m", "--key", str(key), *more])


def test_it_is_signed_once(folder, tmp_path, capsys):
    key = Controller(tmp_path).key
    assert sign(folder, key, "--verdict", "pass") == 0
    assert capsys.readouterr().out.endswith("signed\n")
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sign(folder, key, "--verdict", "pass") == 0
    assert "signed already" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made
    found = without_ansible.load("artifact_manifest").run(
        {"path": str(folder), "state": "verified", "manifest": None, "places": [], "name": "m"},
        False,
    )
    assert found["signature"].encode() == made["m.manifest.json.sig"]
    assert manifest.dump(found["manifest"]) == made["m.manifest.json"]


def test_what_nobody_judged_or_what_is_damaged_is_not_signed(folder, tmp_path, capsys):
    key = Controller(tmp_path).key
    assert sign(folder, key) == 1
    assert "only what passed" in capsys.readouterr().err
    (folder / "m_int8.onnx").write_bytes(b"damaged")
    assert sign(folder, key, "--verdict", "pass") == 1
    assert "Copy the artifacts again" in capsys.readouterr().err
    assert not (folder / "m.manifest.json.sig").exists()


def test_the_builders_own_run_leaves_it_signed(folder, tmp_path):
    assert sign(folder, Controller(tmp_path).key, "--verdict", "pass") == 0
    listed = signed.without(json.loads((folder / "m.manifest.json").read_text()))
    write = without_ansible.load("artifact_manifest").run
    options = {"path": str(folder), "state": "present", "places": [], "name": None}
    write({**options, "manifest": listed}, False)
    assert not write({**options, "manifest": listed}, False)["changed"]
    assert signed.serial(manifest.load(folder / "m.manifest.json"))


@pytest.mark.parametrize("lie", ["link", "large"])
def test_a_signature_file_that_is_none(folder, lie):
    proof = folder / "m.manifest.json.sig"
    proof.symlink_to("/etc/hostname") if lie == "link" else proof.write_bytes(b"x" * 5000)
    with pytest.raises(ModelOpsError) as refusal:
        signed.beside(folder / "m.manifest.json")
    assert refusal.value.where == str(proof)
