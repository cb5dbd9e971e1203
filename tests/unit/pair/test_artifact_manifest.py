"""The module that writes and verifies manifests, on a folder that several models share."""

from __future__ import annotations

import pytest
from modelops.base.errors import ModelOpsError
from modelops.execution import without_ansible
from modelops.pair import manifest
from target import entry

MODULE = without_ansible.load("artifact_manifest")
PLAIN = ("manifest.json", "SHA256SUMS", "golden.npz", "verdict.json")


def call(folder, check_mode=False, **options):
    defaults = {name: spec.get("default") for name, spec in MODULE.MODULE["argument_spec"].items()}
    return MODULE.run(defaults | {"path": str(folder)} | options, check_mode)


def made(folder, model):
    """Put the INT8 files of a model there; returns their manifest."""
    contents = {f"{model}_int8.onnx": b"graph", f"{model}_int8.onnx.data": b"data"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = [entry(name, content) for name, content in contents.items()]
    return manifest.build(files, [entry(f"{model}.onnx", b"fp32")], {}, [], {})


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_models_of_one_folder_write_files_of_their_own(tmp_path):
    for model in ("m", "m_v2"):
        assert call(tmp_path, manifest=made(tmp_path, model))["changed"]
    assert {"m.manifest.json", "m_v2.manifest.json", "m.SHA256SUMS"} <= names(tmp_path)
    for model in ("m", "m_v2"):
        found = call(tmp_path, state="verified", name=model)
        assert found["files"][0]["name"] == f"{model}_int8.onnx"
    with pytest.raises(ModelOpsError, match="several models"):
        call(tmp_path, state="verified")


def test_what_a_version_before_left_for_this_model_goes(tmp_path):
    listed = made(tmp_path, "m")
    for name in PLAIN:
        (tmp_path / name).write_text("")
    (tmp_path / "manifest.json").write_bytes(manifest.dump(made(tmp_path, "m_v2")))
    assert call(tmp_path, manifest=listed)["changed"]
    assert set(PLAIN) <= names(tmp_path), "they are another model's"
    (tmp_path / "manifest.json").write_bytes(manifest.dump(listed))
    assert call(tmp_path, state="verified", name="m")["release_id"] == listed["release_id"]
    assert call(tmp_path, check_mode=True, manifest=listed)["changed"]
    assert set(PLAIN) <= names(tmp_path)
    assert call(tmp_path, manifest=listed)["changed"]
    assert not set(PLAIN) & names(tmp_path)
    assert not call(tmp_path, manifest=listed)["changed"]


def test_files_that_were_taken_over_are_found_where_they_went(tmp_path):
    incoming, live, release = tmp_path / "incoming", tmp_path / "live", tmp_path / "s" / ("0" * 16)
    for folder in (incoming, live, release):
        folder.mkdir(parents=True)
    listed = made(incoming, "m")
    (incoming / "m.golden.npz").write_bytes(b"golden")
    listed["golden"] = entry("m.golden.npz", b"golden")
    call(incoming, manifest=listed)
    for path in incoming.glob("m_int8*"):
        path.rename(live / path.name)
    (incoming / "m.golden.npz").rename(release / "m.golden.npz")
    with pytest.raises(ModelOpsError, match="missing"):
        call(incoming, state="verified")
    places = [str(live), str(release.parent)]
    assert call(incoming, state="verified", places=places)["folder"] == str(live)
    (live / "m_int8.onnx.data").write_bytes(b"atad")
    with pytest.raises(ModelOpsError, match="not what the manifest says"):
        call(incoming, state="verified", places=places)
