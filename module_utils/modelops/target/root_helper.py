"""Ask root's helper on a target for what only root may do: the program modelops-root, with sudo.

Standard library only. The helper knows units, accounts and folders from a file of root's own, which
anybody may read; here it is compared with what a run expects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.finding import Finding, finding
from ..pair import names
from .units import run

PROGRAM = "/usr/local/sbin/modelops-root"
COMMAND = ("sudo", "-n", PROGRAM)
SETTINGS = Path("/etc/modelops/targets.d")
LARGEST = 64 << 10  # bytes of the settings
CALL_LIMIT_S = 120.0
REMEDY = "Run playbooks/setup_target.yml with -K, or set sarai_privileges: become."


def call(
    model: str, *words: str, check: bool = False, limit_s: float = CALL_LIMIT_S
) -> dict[str, Any]:
    """Let the helper do what `words` say: a verb, and the id and the key where it takes them.

    Args:
        check: only tell what would change.

    Returns:
        `changed`, and what the verb tells.

    Raises:
        ModelOpsError: it is not there, not allowed, refuses, or fails.
    """
    done = run(*COMMAND, names.check(model), *(["check"] if check else []), *words, limit_s=limit_s)
    try:
        told = opener.parsed(done.stdout)
    except ValueError:
        told = None
    if isinstance(told, dict) and done.returncode == 0 and isinstance(told.get("changed"), bool):
        return told
    said = told.get("msg", "") if isinstance(told, dict) else done.stderr.strip() or done.stdout
    raise ModelOpsError(
        f"root's helper did not do {words[0]}: {str(said)[:500] or 'it says nothing'}",
        where=PROGRAM,
        remedy=REMEDY,
    )


def look(model: str, expected: Mapping[str, Any]) -> list[Finding]:
    """Return the rows of preflight on the helper: it may be called, and has the run's settings."""
    try:
        call(model, "disarm", check=True)
        said = opener.read_json(SETTINGS / f"{names.check(model)}.json", LARGEST)
    except FileNotFoundError:
        return [_row("root's helper", f"{SETTINGS} has nothing of {model}", "it knows the model")]
    except ModelOpsError as error:
        return [_row("root's helper", error.what, "it may be called")]
    except OSError as error:
        return [_row("root's helper", str(error), "its settings may be read")]
    said = said if isinstance(said, dict) else {}
    wrong = [
        _row(f"root's settings: {name}", json.dumps(said.get(name)), json.dumps(wanted))
        for name, wanted in expected.items()
        if said.get(name) != wanted
    ]
    return wrong or [finding("root's helper", True, PROGRAM, "it has what the run expects", "")]


def _row(check: str, value: str, wanted: str) -> Finding:
    return finding(check, False, value, wanted, REMEDY)
