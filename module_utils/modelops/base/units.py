"""Numbers with their units, for people."""

from __future__ import annotations


def size(value: float) -> str:
    """Return a number of bytes in decimal units, as the owner's figures are."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.4g} {unit}"
    return f"{value:.0f} B"


def seconds(value: float) -> str:
    """Return a time in s or ms."""
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
