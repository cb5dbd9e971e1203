"""What a state may say before anything is done by it. Standard library only.

Somebody may have edited or forged state.json: paths are made of its ids, files move by what was
pending, and who was confirmed never goes back by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..pair.manifest import RELEASE_ID

FP32 = "fp32"
# The folders that a pair may leave for, beside those of releases (change._leaving).
_LEFT = re.compile(r"[0-9a-f]{16}|damaged-[0-9a-f]{16}|unmanaged-[0-9]{8}T[0-9]{12}Z")


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and RELEASE_ID.fullmatch(value) is not None


def _names_model(value: Any) -> bool:
    return value == FP32 or _is_id(value)


def _is_before(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and _names_model(value.get("active"))
        and ("live" in value and (value["live"] is None or _is_id(value["live"])))
    )


def _is_pending(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not {"in", "out", "config"} <= set(value):
        return False
    out, names = value["out"], value.get("names", [])
    return (
        (value["in"] is None or _is_id(value["in"]))
        and (out is None or (isinstance(out, str) and _LEFT.fullmatch(out) is not None))
        and isinstance(value["config"], str)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
    )


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("release"), str) for entry in value
    )


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "active": _names_model,
    "live": lambda v: v is None or _is_id(v),
    "last_good": _names_model,
    "confirmed": lambda v: isinstance(v, bool),
    "deadline": lambda v: v is None or (isinstance(v, int) and not isinstance(v, bool)),
    "before": _is_before,
    "pending": _is_pending,
    "previous": lambda v: isinstance(v, dict),
    "void": lambda v: (
        isinstance(v, dict) and all(_is_id(k) and isinstance(why, str) for k, why in v.items())
    ),
    "history": _is_history,
}


def problem(state: Mapping[str, Any], config: str | None) -> str:
    """Return why a state cannot be believed; empty when it can.

    Args:
        state: with all its fields.
        config: the path of the configuration that the last activation was of, as it is kept beside
            the state; None where none is.
    """
    malformed = [field for field, fine in _SHAPES.items() if not fine(state[field])]
    if malformed:
        return f"{', '.join(malformed)} malformed"
    pending = state["pending"]
    if pending and pending["config"] != config:
        return f"its move is of {pending['config']!r}, the last activation was of {config!r}"
    if state["confirmed"]:
        # A commit and each way back leave it so: a release that nobody confirmed is no last good.
        if state["before"] is not None or state["deadline"] is not None:
            return "it is confirmed, and has what lies behind a release that is not"
        if state["active"] not in (FP32, state["last_good"]):
            return f"{state['active']} is confirmed, and {state['last_good']} is the last good one"
    elif state["before"] is None or state["active"] == FP32:
        return "a release is not confirmed, and what was before it is missing"
    return ""
