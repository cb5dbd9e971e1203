"""What others brought is copied: no account and no second name can write what is live."""

from __future__ import annotations

import os

import pytest
from modelops.base import files, opener
from modelops.base.errors import ModelOpsError
from modelops.pair import copy
from modelops.target import operations
from target import Target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")


@pytest.fixture
def target(tmp_path) -> Target:
    return Target(tmp_path)


def foreign(path, kind: str) -> None:
    """Let a file be one that somebody else may write."""
    if kind == "account":
        if os.geteuid():
            pytest.skip("only root gives files away")
        os.chown(path, 12345, 12345)
    elif kind == "mode":
        path.chmod(0o666)
    elif kind == "group":
        path.chmod(0o664)
    elif kind == "link":
        os.link(path, path.parents[4] / f"second-{path.name}")


KINDS = ["account", "mode", "group", "link"]


def live(target: Target):
    return sorted(target.root.glob("m_int8*"))


def require_ours(target: Target) -> None:
    assert len(live(target)) == 2
    for path in live(target):
        found = path.stat()
        assert found.st_uid == os.geteuid() and found.st_nlink == 1
        assert found.st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["of a run", "of a person"])
def test_what_others_brought_never_becomes_live(target, kind, place):
    listed = target.arrive("A")
    release = listed["release_id"]
    folder = target.store.incoming / release
    if place == "of a person":
        folder = folder.rename(target.root / ".incoming" / "brought")
    kept = []
    for path in folder.iterdir():
        foreign(path, kind)
        kept.append(os.open(path, os.O_RDWR))
    operations.stage(target.store, release, listed, folder, check_mode=False)
    target.activate(release)
    target.commit(release)
    require_ours(target)
    for descriptor in kept:  # it was open before, whatever owner and mode became of it
        os.write(descriptor, b"forged")
        os.close(descriptor)
    assert target.in_service() == release
    assert (place == "of a person") == (folder / "m_int8.onnx").exists()


def test_what_a_run_brought_is_not_written_again(target):
    listed = target.arrive("A")
    data = target.store.incoming / listed["release_id"] / "m_int8.onnx.data"
    inode = data.stat().st_ino
    target.stage(listed)
    target.activate(listed["release_id"])
    assert (target.root / data.name).stat().st_ino == inode


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_version_before_took_over_is_copied(target, kind):
    """Staged, or live already, as the inode of somebody else."""
    listed = target.arrive("A")
    release = listed["release_id"]
    target.stage(listed)
    for path in target.store.folder(release).glob("m_int8*"):
        foreign(path, kind)
    target.activate(release)
    target.commit(release)
    require_ours(target)
    for path in live(target):
        (target.root.parents[1] / f"second-{path.name}").unlink(missing_ok=True)
        foreign_live = path.parent / "x" / "y" / path.name  # four folders below `second`
        foreign_live.parent.mkdir(parents=True, exist_ok=True)
        path.rename(foreign_live)
        foreign(foreign_live, kind)
        foreign_live.rename(path)
    told = target.activate(release, check_mode=True)
    assert len([text for text in told["moved"] if "of our own" in text]) == 2
    target.activate(release)
    require_ours(target)
    assert not target.activate(release)["changed"]


@pytest.mark.parametrize("brought", ["link", "fifo", "long", "short", "other"])
def test_what_is_not_the_file_is_not_copied(target, tmp_path, brought):
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.write_bytes(b"right")
    entry = {"name": "dest", "size": 5, "sha256": files.sha256_file(source)}
    if brought in ("link", "fifo"):
        source.rename(tmp_path / "right")
        source.symlink_to("right") if brought == "link" else os.mkfifo(source)
    elif brought == "long":
        with source.open("r+b") as handle:
            handle.truncate(8 << 30)
    else:
        source.write_bytes(b"righ" if brought == "short" else b"wrong")
    with pytest.raises(ModelOpsError):
        copy.copy_file(source, dest, entry)
    assert not dest.exists() and not list(tmp_path.glob(".*"))


def test_a_link_at_the_name_of_a_copy_in_the_making(tmp_path):
    source, dest, victim = (tmp_path / name for name in ("source", "dest", "victim"))
    source.write_bytes(b"right")
    victim.write_bytes(b"his")
    for name in (".dest.part", "dest.part", "dest"):
        (tmp_path / name).symlink_to(victim)
    copy.copy_file(source, dest, {"name": "dest", "size": 5, "sha256": files.sha256_file(source)})
    assert victim.read_bytes() == b"his"
    assert dest.read_bytes() == b"right" and not dest.is_symlink()


@pytest.mark.parametrize("how", ["system", "blocks"])
def test_both_ways_to_copy(tmp_path, monkeypatch, how):
    if how == "blocks":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    source, dest = tmp_path / "source", tmp_path / "dest"
    content = bytes(range(256)) * 9000
    source.write_bytes(content)
    source.chmod(0o666)
    entry = {"name": "d", "size": len(content), "sha256": files.sha256_file(source)}
    before = os.umask(0)
    try:
        copy.copy_file(source, dest, entry)
    finally:
        os.umask(before)
    assert dest.read_bytes() == content and dest.stat().st_mode & 0o777 == 0o644
    assert opener.is_own(dest) and dest.stat().st_ino != source.stat().st_ino
