"""Copying a pair within one machine."""

from __future__ import annotations

import pytest
from modelops import copying, manifest
from modelops.errors import ModelOpsError


@pytest.fixture
def pair(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, size in (("a.onnx", 10), ("a.onnx.data", 3_000_000)):
        (source / name).write_bytes(bytes(range(256)) * (size // 256 + 1))
    return source, tmp_path / "dest", [manifest.describe(p) for p in sorted(source.iterdir())]


def test_copies_once(pair):
    source, dest, files = pair
    assert copying.copy_pair(source, dest, files, check_mode=True) == ["a.onnx", "a.onnx.data"]
    assert not dest.exists()
    assert copying.copy_pair(source, dest, files, check_mode=False) == ["a.onnx", "a.onnx.data"]
    assert all(row["ok"] for row in manifest.verify(dest, files))
    assert copying.copy_pair(source, dest, files, check_mode=False) == []
    (dest / "a.onnx").write_bytes(b"damaged")
    assert copying.copy_pair(source, dest, files, check_mode=False) == ["a.onnx"]


def test_a_changed_source_gets_no_name(pair):
    source, dest, files = pair
    (source / "a.onnx.data").write_bytes(b"\1" * files[1]["size"])
    with pytest.raises(ModelOpsError, match="instead of"):
        copying.copy_pair(source, dest, files, check_mode=False)
    assert [p.name for p in dest.iterdir()] == ["a.onnx"]


def test_no_room(pair, monkeypatch):
    source, dest, files = pair
    usage = copying.require_space.__globals__["shutil"].disk_usage("/")._replace(free=9)
    monkeypatch.setattr("modelops.files.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ModelOpsError, match="9 bytes free"):
        copying.copy_pair(source, dest, files, check_mode=False)
    assert list(dest.iterdir()) == []
