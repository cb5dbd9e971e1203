"""Who may read what a run writes: the account's umask decides nothing."""

from __future__ import annotations

import os

import pytest
from modelops.base.files import give_access, write_atomic
from modelops.execution import module_result
from modelops.pair import manifest
from target import Target

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")


@pytest.fixture(params=[0o077, 0o027, 0o000])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_has_the_mode_that_was_asked_for(umask, tmp_path):
    for wanted in (0o600, 0o644, 0o640):
        write_atomic(tmp_path / "file", b"x", wanted)
        assert mode(tmp_path / "file") == wanted


class EndedError(Exception):
    """A module's process ended."""


def test_under_ansible_what_is_not_closed_can_be_read(umask, tmp_path):
    class Module:
        params = {}
        check_mode = False

        def warn(self, warning): ...

        def exit_json(self, **result):
            raise EndedError(result)

    def run(params, check_mode):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_bytes(b"x")
        return {"changed": True}

    with pytest.raises(EndedError):
        module_result.conclude(Module(), run)
    assert (mode(tmp_path / "folder"), mode(tmp_path / "folder" / "file")) == (0o755, 0o644)


@pytest.mark.parametrize("wanted", [0o644, 0o640, 0o444, 0o664])
def test_the_live_pair_is_read_by_whoever_reads_fp32(umask, tmp_path, wanted):
    target = Target(tmp_path)
    graph = target.root / "m.onnx"
    graph.chmod(wanted)
    if os.geteuid() == 0:
        os.chown(graph, 1234, 4321)
    target.release("A")
    live = sorted(target.root.glob("m_int8*"))
    assert len(live) == 2
    for path in live:
        found, like = path.stat(), graph.stat()
        assert mode(path) == wanted & 0o755  # whoever else writes FP32 does not write this
        assert (found.st_uid, found.st_gid) == (like.st_uid, like.st_gid)


def test_what_this_account_may_not_give_is_left(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    path, like = tmp_path / "path", tmp_path / "like"
    for file in (path, like):
        file.write_bytes(b"x")
    monkeypatch.setattr(os, "chown", refuse)
    like.chmod(0o640)
    give_access(path, like)
    assert mode(path) == 0o640
    give_access(path, tmp_path / "none")


@pytest.mark.parametrize("change", [
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.replace(b"\n", b"\r\n"),
    lambda text: text.upper().replace(b"M_INT8.ONNX.DATA", b"m_int8.onnx.data").replace(
        b"M_INT8.ONNX", b"m_int8.onnx"),
    lambda text: text.replace(b"  ", b" *"),
    lambda text: text.replace(b"  ", b"  ./"),
])  # fmt: skip
def test_sums_as_the_tools_of_others_write_them(tmp_path, change):
    target = Target(tmp_path)
    made = target.arrive("A")
    folder = target.store.incoming / made["release_id"]
    (folder / "SHA256SUMS").write_bytes(change(manifest.sums(made["artifacts"]).encode()))
    assert manifest.sums_problems(folder, made["artifacts"]) == []
    (folder / "SHA256SUMS").write_bytes(change(b"0" * 64 + b"  m_int8.onnx\n"))
    assert manifest.sums_problems(folder, made["artifacts"])
