"""A row of preflight: what was looked at, how it is, and what to do. Standard library only."""

from __future__ import annotations

Finding = dict[str, str]


def finding(
    check: str,
    ok: bool,
    value: object,
    threshold: object,
    remedy: str,
    level: str = "problem",
    name: str = "",
) -> Finding:
    """Return one row.

    Args:
        level: what it is when it is not right: `problem`, or `advice`, which stops nothing.
        name: what code knows the row by, which `check` is not for; empty where no code asks.
    """
    return {
        "id": name,
        "check": check,
        "level": "ok" if ok else level,
        "value": str(value),
        "threshold": str(threshold),
        "remedy": "" if ok else remedy,
    }
