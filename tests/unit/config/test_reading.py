"""What config_read reads of a configuration, and what the controller makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from modelops.config import byte_edits, reading
from modelops.execution import module_result, without_ansible
from modelops.pair import received

READ = without_ansible.load("config_read").run


def answer(path: Path) -> dict[str, object]:
    """What a role is given of the module's answer."""
    said = module_result.run_guarded(READ, {"path": str(path)}, True)
    return received.checked("config_read", {"path": str(path)}, said)


def test_every_byte_comes_also_through_a_link(tmp_path):
    text = b"\xef\xbb\xbfa: \xff\x00\x1b[31m\r\n" + "niño".encode()
    file, link = tmp_path / "a.yaml", tmp_path / "b.yaml"
    file.write_bytes(text)
    link.symlink_to(file)
    for path in (file, link):
        assert reading.content(answer(path)) == text
    file.write_bytes(b"")
    assert reading.content(answer(file)) == b""


def test_no_file_is_another_thing_than_one_that_could_not_be_read(tmp_path):
    assert reading.content(answer(tmp_path / "none.yaml")) is None
    (tmp_path / "link").symlink_to("nowhere")
    for path, why in ((tmp_path, "not a regular file"), (tmp_path / "link", "No such file")):
        found = answer(path)
        assert found["failed"] and why in found["msg"]
        assert reading.content(found) == b""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs in its folders")
def test_what_would_keep_the_controller_is_refused_at_once(tmp_path):
    fifo, large = tmp_path / "fifo", tmp_path / "large"
    os.mkfifo(fifo)
    large.write_bytes(b"#")
    os.truncate(large, byte_edits.LARGEST + 1)
    assert "not a regular file" in answer(fifo)["msg"]
    assert "may have 262,144" in answer(large)["msg"]
