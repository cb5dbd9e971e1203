"""Whether releases can be signed here and are let in there, known before anything moves.

Rows of preflight. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.finding import Finding, finding
from .ledger import Signing
from .trust import SIGNERS, Trust

ID = "signing"
_SIGNS, _LETS_IN = "the key that signs releases", "signed releases"
_BRINGS = "playbooks/keys.yml brings it to the targets."
_NAME_ONE = (
    "Name a key in the inventory (sign_key), such as ~/.config/modelops/ed25519, and run"
    " playbooks/keys.yml, which makes it."
)


def of_controller(model: str, key: str, required: bool) -> dict[str, Any]:
    """Look at the key that signs what this run builds.

    Args:
        key: the file of the private key; empty where releases stay unsigned.
        required: whether they may not.

    Returns:
        `findings`; `brings`: whether this run brings releases, signed where there is a key; `key`:
        the public key that signs them, in base64, empty without one.
    """
    if not key:
        wanted = "one is named, since sign_releases is required"
        rows = [_row(_SIGNS, "sign_key is not set", wanted, _NAME_ONE)] if required else []
        return {"findings": rows, "brings": not required, "key": ""}
    file = Path(key).expanduser()
    problems, signer = _tried(_SIGNS, Signing(model, file, file.with_name("ledger")).ready)
    if signer is None:
        return {"findings": problems, "brings": False, "key": ""}
    return {"findings": [_row(_SIGNS, key, "it signs")], "brings": True, "key": signer.key}


def of_target(asked: Mapping[str, Any]) -> list[Finding]:
    """Look at what a target asks of releases.

    Args:
        asked: `model`, `trust_dir`, `serials_dir`, `required`; `brings`: whether the release is the
            one that the controller made, since of another one it is not known who signed it; `key`:
            the public key that signs it, in base64, empty where nothing does.
    """
    model, brings, key = asked["model"], asked["brings"], asked["key"]
    trust = Trust(Path(asked["trust_dir"]), Path(asked["serials_dir"]), asked["required"])
    file = trust.folder / SIGNERS
    if not trust.asks and not key:
        return []
    if not trust.knows:
        level = "problem" if trust.asks else "advice"
        return [_row(_LETS_IN, f"there is no {file}", "it names who may sign", _BRINGS, level)]
    rows = _tried(_LETS_IN, trust.require_tools)[0]
    rows += _tried(_LETS_IN, lambda: trust.serial(model))[0]
    if brings and not key:
        value = "sign_key is not set, and this target takes signed releases alone"
        rows.append(_row(_LETS_IN, value, "the release is signed", _NAME_ONE))
    elif brings:
        more, wrong = _tried(_LETS_IN, lambda: trust.key_problem(model, key))
        rows += more
        rows += [_row(_LETS_IN, wrong.what, "it may sign here", wrong.remedy)] if wrong else []
    return rows or [_row(_LETS_IN, file, "they are let in")]


def _tried(check: str, step: Callable[[], Any]) -> tuple[list[Finding], Any]:
    """Return the row of what a step refuses, and what it gives."""
    try:
        return [], step()
    except ModelOpsError as error:
        value, remedy = f"{error.where}: {error.what}", error.remedy
    except OSError as error:
        value, remedy = str(error), "Let this user read the file."
    return [_row(check, value, "it is as it must be", remedy)], None


def _row(
    check: str, value: object, wanted: str, remedy: str = "", level: str = "problem"
) -> Finding:
    return finding(check, not remedy, value, wanted, remedy, level, ID)
