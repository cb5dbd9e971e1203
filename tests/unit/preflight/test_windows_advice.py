"""What a Windows of today advises: its proxy, and which file is no Python at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from modelops.preflight import windows_host

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from plugin_utils import bridge, reply


def setting(proxy: str, flags: int = 3) -> bytes:
    """A value as `netsh winhttp set proxy` leaves it, with a list of exceptions at its end."""
    text, spared = proxy.encode(), b"<local>"
    numbers = [0x28, 0, flags, len(text)]
    return (
        b"".join(number.to_bytes(4, "little") for number in numbers)
        + text + len(spared).to_bytes(4, "little") + spared
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        (setting("proxy.lan:3128"), "proxy.lan:3128"),
        (setting("", 1), ""),
        (None, ""),
        (b"\x28\0\0", ""),
        ("text", ""),
    ],
)
def test_the_proxy_of_windows_own_services(value, proxy):
    assert windows_host.winhttp_proxy(value) == proxy


def test_a_proxy_that_pip_does_not_know_is_advice():
    assert windows_host.check_proxy({}, "") == []
    (row,) = windows_host.check_proxy({}, "proxy.lan:3128")
    assert (row["level"], row["value"]) == ("advice", "none for this user")
    assert "proxy.lan:3128" in row["remedy"] and "HTTPS_PROXY" in row["remedy"]
    own = {"https": "http://me:secret@proxy.lan:3128", "no": "localhost"}
    (row,) = windows_host.check_proxy(own, "proxy.lan:3128")
    assert (row["level"], row["value"]) == ("ok", "proxy.lan:3128")
    assert "secret" not in str(row)


@pytest.mark.parametrize(
    "python",
    [
        r"C:\Windows\py.exe",
        r"C:\Windows\PY",
        "C:/Windows/pyw.exe",
        r"C:\Users\me\AppData\Local\Programs\Python\Launcher\py.exe",
        r"C:\Users\me\AppData\Local\Microsoft\WindowsApps\python.exe",
        r"C:\Program Files\WindowsApps\PythonSoftwareFoundation.Python.3.12\python.exe",
    ],
)
def test_a_starter_is_no_python(python):
    with pytest.raises(AnsibleError, match="py --list-paths"):
        bridge.require_python(python)


@pytest.mark.parametrize("python", [r"C:\Python312\python.exe", r"C:\py\python.exe"])
def test_a_python_is_one(python):
    assert bridge.require_python(python) == python


def test_the_launcher_alone_is_told_where_there_is_no_python():
    raw = {"rc": 2, "msg": "Failed to run: 'x': The system cannot find the file specified"}
    assert "launcher py alone is none" in reply.explain(raw, r"C:\Python312\python.exe")
