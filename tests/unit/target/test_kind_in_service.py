"""A target tells what it has in service: FP32, or what the release's manifest says."""

from __future__ import annotations

import json

from modelops.target import operations
from target import Target


def test_what_is_in_service_is_told_by_its_manifest(tmp_path):
    target = Target(tmp_path)
    assert operations.query(target.store, False)["kind"] == ""
    release = target.release("A")
    assert operations.query(target.store, False)["kind"] == "INT8"
    path = target.store.folder(release) / "manifest.json"
    listed = json.loads(path.read_text())
    path.write_text(json.dumps(listed | {"recipe": {"name": "fp16"}}))
    assert operations.query(target.store, False)["kind"] == "FP16"
    path.write_text("{}")
    assert operations.query(target.store, False)["kind"] == "release"
    target.roll_back()
    assert operations.query(target.store, False)["kind"] == ""
