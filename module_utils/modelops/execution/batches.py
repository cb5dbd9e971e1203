"""How targets are cut into batches: one first, and then the others."""

from __future__ import annotations

from typing import Any


def batches(hosts: list[str], sizes: Any) -> list[list[str]]:
    """Cut hosts into batches, as `serial` of a play does; the last size counts for all the rest.

    Args:
        sizes: one or several of a number of hosts and a part of all of them, such as "30%".
    """
    sizes = list(sizes) if isinstance(sizes, list) else [sizes]
    found, rest = [], list(hosts)
    while rest:
        size = str(sizes.pop(0) if len(sizes) > 1 else sizes[0])
        part = len(hosts) * int(size[:-1]) // 100 if size.endswith("%") else int(size)
        count = max(part, 1)
        found.append(rest[:count])
        rest = rest[count:]
    return found
