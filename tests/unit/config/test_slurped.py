"""What Ansible read of a configuration, as bytes."""

from __future__ import annotations

import base64

from modelops.config import slurped


def test_no_file_is_another_thing_than_an_empty_one_or_one_that_could_not_be_read():
    there, absent = {"stat": {"exists": True}}, {"stat": {"exists": False}}
    read = {"content": base64.b64encode(b"a: \xff\r\n").decode()}
    assert slurped.content({"stat": absent, "slurped": {}}) is None
    assert slurped.content({"stat": there, "slurped": read}) == b"a: \xff\r\n"
    assert slurped.content({"stat": there, "slurped": {"failed": True}}) == b""
