"""A Windows that refuses, in English and Spanish: told by numbers, asked again where right."""

from __future__ import annotations

import base64
import shutil

import pytest
from plays import run, tried
from test_double_wire import ended, protocol, python
from test_windows_faults import FOLDER, check, reach

# What a look at a host sees of it. Each line: on which request, how, and what is said of it.
REFUSALS = [
    ("Create", {"code": 5}, "does not let him use WinRM"),
    ("Create", {"code": 5, "spanish": True}, "does not let him use WinRM"),
    ("Create", {"code": 2147942405, "spanish": True}, "does not let him use WinRM"),
    ("Create", {"http": 400}, "did not understand the request (HTTP 400)"),
]
PASSING = [
    ("Create", {"http": 503}),
    ("Create", {"code": 2150859173, "spanish": True}),
    ("Command", {"http": 429}),
    ("Command", {"code": 170, "spanish": True}),
    ("Send", {"code": 170}),
]


@pytest.fixture
def folder(windows):
    windows.mend()
    path = windows.path(FOLDER)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    yield path
    windows.mend()
    shutil.rmtree(path, ignore_errors=True)


def test_a_refusal_is_told_with_its_remedy(windows, tmp_path, folder):
    for on, how, words in REFUSALS:
        windows.refuse(on, times=9, **how)
        code, said = reach(windows, tmp_path)
        assert code == 2 and words in said, (how, said)


@pytest.mark.parametrize(("on", "how"), PASSING)
def test_what_passes_is_asked_again(windows, folder, on, how):
    windows.refuse(on, **how)
    done = run(windows, check())
    assert done.rc == 0, done.result


def test_a_host_without_quotas_that_queues_its_commands(windows, folder):
    """As recorded on a Windows 11: 2147483647 is no limit. An answer comes in several pieces."""
    names = ("MaxMemoryPerShellMB", "MaxProcessesPerShell", "MaxShellsPerUser")
    windows.quota(**dict.fromkeys(names, 2147483647))
    windows.queue()
    done = run(windows, check())
    assert done.rc == 0 and done.result["findings"], done.result
    link = protocol(windows)
    shell = link.open_shell(codepage=65001)
    out, _, code = ended(link, shell, *python(windows, "print('a' * 100_000)"))
    link.close_shell(shell)
    assert (out, code) == (b"a" * 100_000 + b"\r\n", 0)


def test_a_shell_that_is_lost_is_named(windows, folder):
    """As recorded: the reason tells of invalid selectors, the number of a shell that is gone."""
    windows.refuse("Receive", times=9, code=2150858843, spanish=True)
    done = run(windows, check())
    assert done.rc == 4 and "the shell is gone there" in done.result["msg"]
    assert "selectores no válidos" in done.result["msg"]


@pytest.mark.parametrize("spanish", [False, True])
def test_progress_of_powershell_on_standard_error_is_no_error(windows, folder, spanish):
    """As recorded of every PowerShell over WinRM: its progress comes as CLIXML, in its language."""
    windows.speak_spanish(spanish)
    link = protocol(windows)
    shell = link.open_shell(codepage=65001)
    script = base64.b64encode(f"& '{windows.python}' -c pass".encode("utf-16-le")).decode()
    _, err, code = ended(link, shell, "powershell.exe", "-EncodedCommand", script)
    link.close_shell(shell)
    assert code == 0 and err.startswith(b"#< CLIXML\r\n<Objs ")
    assert ("módulos" in err.decode()) == spanish
    looked, quiet, loud = tried(
        windows,
        check(),
        {"ansible.builtin.raw": f"& '{windows.python}' -c pass"},
        {"ansible.builtin.raw": f"& '{windows.python}' -c 'import sys; sys.exit(chr(60))'"},
    )
    assert looked["findings"] and "module_stderr" not in looked
    assert (quiet["rc"], quiet["stderr"]) == (0, "")
    assert (loud["rc"], loud["stderr"].strip()) == (1, "<")


def test_what_an_account_that_is_no_administrator_may_not_change(windows, folder, tmp_path):
    local = tmp_path / "x"
    local.write_text("x")
    made, there, copied, root = tried(
        windows,
        {"ansible.windows.win_file": {"path": r"C:\Program Files\x", "state": "directory"}},
        {"ansible.windows.win_file": {"path": r"C:\windows", "state": "directory"}},
        {"ansible.windows.win_copy": {"src": str(local), "dest": r"C:\Windows\x"}},
        {"ansible.windows.win_file": {"path": r"C:\SARAi new", "state": "directory"}},
    )
    assert made["msg"] == r"Access to the path 'C:\Program Files\x' is denied."
    assert not there["changed"] and not there.get("failed")
    assert "is denied" in copied["msg"] and root["changed"]
    windows.path(r"C:\SARAi new").rmdir()
