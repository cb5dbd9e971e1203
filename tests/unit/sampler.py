"""The sampler of the role acceptance, loaded as a module, and samples as it writes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "roles/acceptance/files/modelops_sampler.py"
RELEASE = "0123456789abcdef"
DAY = 86400


def load() -> Any:
    spec = importlib.util.spec_from_file_location("modelops_sampler", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sample(at: float, number: int = 0, **changes: Any) -> dict[str, Any]:
    """A good sample; what may move does so with `number`."""
    return {
        "v": 1,
        "at": at,
        "boot": "b0",
        "release": RELEASE,
        "active": True,
        "restarts": 0,
        "memory_bytes": 1_200_000_000 + number % 7,
        "deaths": {},
        "out_of_memory": 0,
        "latency_s": 1.0 + number % 5 / 10,
        "answer": "ok",
        "fresh": True,
        "metrics": {},
        "cursor": f"s={number}",
    } | changes


def month(now: float, every_s: int = 3600, days: int = 31, **changes: Any) -> list[dict[str, Any]]:
    """The samples of so many days until now, one each `every_s`."""
    count = days * DAY // every_s
    return [
        sample(
            now - (count - 1 - i) * every_s, i,
            **{"metrics": {"cache_hits": 80.0 * i, "cache_misses": 20.0 * i}} | changes,
        )
        for i in range(count)
    ]  # fmt: skip
