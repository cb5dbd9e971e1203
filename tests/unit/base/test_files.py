"""Writing a large file: whole, durable, and no error of the disk is missed."""

from __future__ import annotations

import errno
import os

import pytest
from modelops.base import files


def test_a_write_that_takes_a_part_is_gone_on_with(tmp_path):
    path = tmp_path / "data"
    with files.DurableFile(path) as out:
        write = out._file.write

        class Short:
            def __getattr__(self, name):
                return getattr(whole, name)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                whole.close()

            def write(self, chunk):
                return write(chunk[:3])

        whole, out._file = out._file, Short()
        out.write(b"0123456789")
        out.write(b"")
        out.write(memoryview(b"abcd"))
    assert path.read_bytes() == b"0123456789abcd"


def test_a_write_that_was_lost_in_the_background_is_an_error(tmp_path, monkeypatch):
    calls = []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "FLUSH_EVERY", 4)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"), files.DurableFile(tmp_path / "d") as out:
        out.write(b"0123")


def test_it_is_durable_before_it_is_left(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(files, "FLUSH_EVERY", 4)
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    with files.DurableFile(tmp_path / "d") as out:
        for _ in range(10):
            out.write(b"abc")
    assert sizes[-1] == 30 and len(sizes) > 1
    sizes.clear()
    with pytest.raises(KeyError), files.DurableFile(tmp_path / "e") as out:
        raise KeyError
    assert sizes == []
