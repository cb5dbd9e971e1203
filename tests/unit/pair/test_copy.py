"""Copying a pair within one machine."""

from __future__ import annotations

import errno

import pytest
from modelops.base.errors import ModelOpsError
from modelops.pair import copy, manifest


@pytest.fixture
def pair(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, size in (("a.onnx", 10), ("a.onnx.data", 3_000_000)):
        (source / name).write_bytes(bytes(range(256)) * (size // 256 + 1))
    return source, tmp_path / "dest", [manifest.describe(p) for p in sorted(source.iterdir())]


def test_copies_once(pair):
    source, dest, files = pair
    assert copy.copy_pair(source, dest, files, check_mode=True) == ["a.onnx", "a.onnx.data"]
    assert not dest.exists()
    assert copy.copy_pair(source, dest, files, check_mode=False) == ["a.onnx", "a.onnx.data"]
    assert all(row["ok"] for row in manifest.verify(dest, files))
    assert copy.copy_pair(source, dest, files, check_mode=False) == []
    (dest / "a.onnx").write_bytes(b"damaged")
    assert copy.copy_pair(source, dest, files, check_mode=False) == ["a.onnx"]


def test_a_changed_source_gets_no_name(pair):
    source, dest, files = pair
    (source / "a.onnx.data").write_bytes(b"\1" * files[1]["size"])
    with pytest.raises(ModelOpsError, match="instead of") as raised:
        copy.copy_pair(source, dest, files, check_mode=False)
    assert raised.value.facts == {"reason": "damaged"}  # roles/transfer pushes once more on it
    assert [p.name for p in dest.iterdir()] == ["a.onnx"]


def test_no_room(pair, monkeypatch):
    source, dest, files = pair
    usage = copy.require_space.__globals__["shutil"].disk_usage("/")._replace(free=9)
    monkeypatch.setattr("modelops.base.files.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ModelOpsError, match="9 bytes free"):
        copy.copy_pair(source, dest, files, check_mode=False)
    assert list(dest.iterdir()) == []


def test_artifacts_move_and_are_found_where_they_went(pair, tmp_path):
    source, dest, files = pair
    assert copy.move_files(source, dest, files, check_mode=True) == ["a.onnx.data", "a.onnx"]
    assert not dest.exists()
    inode = (source / "a.onnx.data").stat().st_ino
    assert copy.move_files(source, dest, files, check_mode=False) == ["a.onnx.data", "a.onnx"]
    assert list(source.iterdir()) == []
    assert (dest / "a.onnx.data").stat().st_ino == inode, "it was not written a second time"
    assert copy.move_files(source, dest, files, check_mode=False) == []
    release = tmp_path / "store" / "0123456789abcdef"
    release.parent.mkdir()
    assert manifest.standing(source, [tmp_path / "none", tmp_path / "store"], files) is None
    dest.rename(release)
    assert manifest.standing(source, [tmp_path / "none", tmp_path / "store"], files) == release
    data = release / "a.onnx.data"
    data.write_bytes(b"\1" * data.stat().st_size)
    places = [tmp_path / "store"]
    assert manifest.standing(source, places, files, verified=False) == release
    assert manifest.standing(source, places, files) is None


def test_from_disk_to_disk_artifacts_are_copied_hashed_and_removed(pair, monkeypatch):
    source, dest, files = pair
    rename = copy.rename_durable

    def elsewhere(one, other):
        if one.parent != other.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(one, other)

    monkeypatch.setattr(copy, "rename_durable", elsewhere)
    assert copy.move_files(source, dest, files, check_mode=False) == ["a.onnx.data", "a.onnx"]
    assert all(row["ok"] for row in manifest.verify(dest, files))
    assert list(source.iterdir()) == []
