"""Files that others made: links, FIFOs, sparse and deep ones end in a plain error, and at once."""

from __future__ import annotations

import json
import os
import socket

import pytest
from modelops.base import file_lock, files, opener
from modelops.base.errors import ModelOpsError
from modelops.config import replace
from modelops.judging import gates
from modelops.model import declared, protobuf
from modelops.pair import manifest
from modelops.target import run_lock, self_revert, takeover, watcher
from modelops.target.commands import Commands
from modelops.target.store import Store

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs")

KINDS = ["fifo", "socket", "link", "folder", "sparse", "deep"]


def put(path, kind: str) -> None:
    """Put something there that is no file of ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.chdir(path.parent)  # a socket's name is short
        socket.socket(socket.AF_UNIX).bind(path.name)
    elif kind == "link":
        (path.parent / "elsewhere").write_text("{}")
        path.symlink_to(path.parent / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as handle:
            handle.truncate(8 << 30)
    else:
        path.write_text("[" * 100_000)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models" / "file"


@pytest.mark.parametrize("kind", KINDS)
def test_json_that_is_none(place, kind):
    put(place, kind)
    with pytest.raises(ModelOpsError) as raised:
        opener.read_json(place)
    assert raised.value.where == str(place) and raised.value.what and raised.value.remedy


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_reads_a_file_of_the_store_goes_on(place, kind):
    """The state is refused, and what is a courtesy is passed over."""
    root = place.parent
    store = Store(root, "m")
    for path in (store.state_file, root / "verdict.json", root / "manifest.json",
                 root / "SHA256SUMS", store.releases / watcher.ORDER,
                 run_lock.place(root, "m")):  # fmt: skip
        put(path, kind)
        (root / "elsewhere").unlink(missing_ok=True)
    with pytest.raises(ModelOpsError, match="state is not usable"):
        store.load()
    assert gates.Record(root / "verdict.json").notes
    with pytest.raises(ModelOpsError):
        manifest.load(root / "manifest.json")
    assert takeover.take_over(root, "m", check_mode=True) == []
    assert watcher._order(store.releases / watcher.ORDER, "1") is None
    held = run_lock.holder(run_lock.place(root, "m"))
    assert kind == "link" or (held and held["owner"] == "unknown")
    if kind not in ("deep", "link"):
        entries = [{"name": "m_int8.onnx", "size": 1, "sha256": "0" * 64}]
        assert manifest.sums_problems(root, entries)


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "sparse"])
@pytest.mark.parametrize("read", [
    declared.read, protobuf.load, files.sha256_file, replace.read,
    lambda path: manifest.verify(path.parent, [{"name": path.name, "size": 1, "sha256": ""}])[0],
    lambda path: file_lock.is_held(path) or True,
])  # fmt: skip
def test_no_reader_waits(place, kind, read, monkeypatch):
    put(place, kind)
    monkeypatch.setattr(files, "sha256_of", lambda handle, size: "")
    try:
        found = read(place)
    except (ModelOpsError, OSError, protobuf.DecodeError):
        return
    assert kind == "sparse" or found is True or found["problem"]


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_the_archive_of_the_way_back_takes_the_place_of_anything(place, kind):
    if kind == "folder":
        return
    put(place, kind)
    self_revert.write(place)
    assert place.read_bytes() == self_revert.archive() and not place.is_symlink()


def test_a_service_whose_files_are_fifos(tmp_path):
    given = {"start": "true", "folder": tmp_path, "record": tmp_path / "r", "log": tmp_path / "l",
             "pid_file": tmp_path / "p"}  # fmt: skip
    for name in "rlp":
        os.mkfifo(tmp_path / name)
    service = Commands("s", given)
    assert service.look().active == "inactive"
    assert "cannot be read" in service.told("")


def test_a_lock_with_impossible_times(tmp_path):
    path = run_lock.place(tmp_path, "m")
    path.write_text('{"since": 1e999}')
    assert run_lock.holder(path)["owner"] == "unknown"
    path.write_text(json.dumps({"since": 1 << 60, "expires": 1 << 59, "run": "x"}))
    with pytest.raises(ModelOpsError, match="unknown time"):
        run_lock.hold(path, "other")


def test_depth(tmp_path):
    for depth, fine in ((opener.DEEPEST_JSON, True), (opener.DEEPEST_JSON + 1, False)):
        path = tmp_path / "deep.json"
        path.write_text('{"a":' * depth + "1" + "}" * depth)
        if fine:
            opener.read_json(path)
        else:
            with pytest.raises(ModelOpsError, match="deeper than"):
                opener.read_json(path)


def test_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert opener.read(path, 100) == b"x" * 100
    true = os.fstat

    class Small:
        st_size = 0

        def __init__(self, found):
            self.st_mode = found.st_mode

    monkeypatch.setattr(opener.os, "fstat", lambda fd: Small(true(fd)))
    with pytest.raises(ModelOpsError, match="may have 99"):
        opener.read(path, 99)


def test_a_system_without_nofollow_refuses_links_too(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("1")
    (tmp_path / "link").symlink_to("file")
    monkeypatch.setattr(opener, "_NO_LINK", 0)
    with pytest.raises(ModelOpsError, match="symbolic link"):
        opener.read_json(tmp_path / "link")
    assert opener.read(tmp_path / "link", 9, follow=True) == b"1"


def test_a_new_file_follows_no_link(tmp_path):
    (tmp_path / "owners").write_text("his")
    part = tmp_path / ".m_int8.onnx.data"
    part.symlink_to("owners")
    with files.DurableFile(part) as out:
        out.write(b"ours")
    assert (tmp_path / "owners").read_text() == "his" and part.read_bytes() == b"ours"


@pytest.mark.parametrize("kind", ["fifo", "socket", "link", "folder"])
def test_what_a_push_and_the_quantizer_read_is_a_file(place, kind):
    """A FIFO in the place of a pair's file would keep a push for ever."""
    put(place, kind)
    with pytest.raises(ModelOpsError, match="not a regular file"):
        opener.unbuffered(place)
    if kind == "link":  # FP32 may lie elsewhere, where its owner put it
        with opener.unbuffered(place, follow=True) as handle:
            assert handle.read() == b"{}"
        return
    with pytest.raises(ModelOpsError, match="not a regular file"):
        opener.unbuffered(place, follow=True)


def test_a_text_that_is_too_long_is_not_parsed(monkeypatch):
    monkeypatch.setattr(opener, "LARGEST_JSON", 10)
    assert opener.parsed("[1,2,3,4]") == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="11 bytes"):
        opener.parsed("[1,2,3,4,5]")
