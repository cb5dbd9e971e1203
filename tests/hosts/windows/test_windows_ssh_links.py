"""A link over SSH that breaks at the worst moment."""

from __future__ import annotations

import time

from plays import Link, names, quantize, start
from test_windows_ssh import over_ssh  # noqa: F401


def test_a_link_that_breaks_while_a_job_starts(over_ssh, large):  # noqa: F811
    """Nobody hears that it has begun: it is found, and seen to its end."""
    known = over_ssh.inventory_vars()
    link = Link(known["ansible_host"], known["ansible_port"])
    before = len(over_ssh.log())
    process = start(over_ssh, large.local, quantize(large), ansible_port=link.port)
    while not any("async_wrapper.ps1" in str(asked) for asked in over_ssh.log()[before:]):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    link.cut(1.5)
    output, _ = process.communicate(timeout=240)
    link.close()
    assert process.returncode == 0 and "changed=1" in output, output
    assert {"m8.onnx", "m8.onnx.data"} <= names(large.folder)
