"""What a call of win_command brought: the reply of the host, or why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import background as _path  # noqa: F401
from . import boot

# background makes it importable
from modelops.base import app_control, opener  # isort: skip

TAIL = 2000  # characters
# Exit codes of a venv's python.exe without the Python that made it (CPython, PC/launcher.c).
NO_HOME = (103, 106)


def decode(raw: Mapping[str, Any], python: str) -> dict[str, Any]:
    """Return the reply that a call of win_command brought, or a failed result that says why not."""
    stdout, stderr = str(raw.get("stdout") or ""), str(raw.get("stderr") or "")
    # The mark begins a line; within the reply it may stand again, as part of what it tells.
    noise, mark, text = f"\n{stdout}".rpartition(f"\n{boot.MARK}")
    try:
        reply = opener.parsed(text.partition("\n")[0]) if mark else {}
    except ValueError as error:
        reply, raw = {}, {"msg": f"its answer is no JSON of ours: {error}", **raw}
    if not isinstance(reply, dict):
        reply = {}
    if not reply:
        ends = {"module_stdout": stdout[-TAIL:], "module_stderr": stderr[-TAIL:]}
        return failed(explain(raw, python), rc=raw.get("rc"), **ends)
    spoken = {"module_stdout": noise.strip()[-TAIL:], "module_stderr": stderr.strip()[-TAIL:]}
    return {**{name: said for name, said in spoken.items() if said}, **reply}


def explain(raw: Mapping[str, Any], python: str) -> str:
    """Say why a call of win_command brought no reply, and what to do."""
    rc, said = raw.get("rc"), re.sub(r"^Failed to run: '.*': ", "", str(raw.get("msg") or ""))
    # The words are win_command's and Python's own, which are English on every Windows. They choose
    # nothing but the advice; without them it is the general one.
    refused = "Failed to run" in str(raw.get("msg"))
    tail = (str(raw.get("stderr") or "") or str(raw.get("stdout") or "")).strip()[-TAIL:]
    if rc in app_control.CODES and refused:
        return app_control.told(f"{python} ({said})")
    if rc in (2, 3) and refused:
        return (
            f"there is no Python at {python} ({said}). Install it there for all users, or correct"
            " ansible_python_interpreter of this host: py --list-paths shows which are there. The"
            " launcher py alone is none."
        )
    if refused:
        return (
            f"{python} cannot be started ({said}). See that it is a program for this Windows"
            " (64-bit), and that this user may run it."
        )
    lost = "No Python at|failed to locate pyvenv.cfg|did not find executable at"
    if rc in NO_HOME or re.search(lost, tail):
        return (
            f"the environment of {python} is broken ({tail}). Let the phase runtime make it again"
            " (--tags runtime), or make it by hand."
        )
    if "MemoryError" in tail or rc in (0xC0000017, 0xC000012D, -1073741801, -1073741523):
        return (
            "Python had no memory left. See how much WinRM, if used, allows a shell"
            f" (MaxMemoryPerShellMB in WSMan:\\localhost\\Shell), and what else runs there."
            f" It ended with: {tail}"
        )
    cause = f"exit code {rc}, {said}" if said else f"exit code {rc}"
    return (
        f"Python on the host gave no answer ({cause}). If it was ended from outside, see the event"
        " log, an antivirus, and how much memory WinRM, if used, allows a shell"
        f" (MaxMemoryPerShellMB in WSMan:\\localhost\\Shell). It said last: {tail or 'nothing'}"
    )


def failed(text: str, **facts: Any) -> dict[str, Any]:
    """Return a failed result."""
    return {"failed": True, "msg": text, **facts}
