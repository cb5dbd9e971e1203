"""The samples of a service that a target kept, each looked at before it counts.

The sampler (roles/acceptance/files/modelops_sampler.py) says what a sample is. Standard library
only.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..base import opener
from ..base.errors import ModelOpsError

SCHEMA = 1
FILE = re.compile(r"samples-[0-9]{8}\.jsonl")
MOST_FILES = 400
LARGEST_FILE = 8 << 20  # bytes; the sampler begins another one at 4 MiB
LONGEST_LINE = 32 << 10  # bytes; the sampler's have some 500
MOST_SAMPLES = 100_000  # the newest; 45 days at one a minute are 64,800
MOST_BUCKETS = 40
LARGEST = 1 << 60
_RELEASE = re.compile(r"(fp32|[0-9a-f]{16})?")


class Sample(NamedTuple):
    """A sample; None stands for what could not be seen.

    Attributes:
        at: seconds of the epoch, by the target's clock.
        boot: what tells a boot of the target from others.
        release: what was in service: an id, `fp32`, or empty where it is not known.
        restarts: systemd's own count (NRestarts), which begins anew with a start by hand.
        memory_bytes: what the service holds.
        deaths: failures of the unit since the sample before, by systemd's result.
        out_of_memory: kills for want of memory since the sample before.
        latency_s: seconds that the probe question took; None also where nobody answered.
        answer: `ok`, `slow`, or what came in place of an answer; empty without a question.
        fresh: the question was a new one, which no cache knows.
        buckets: the service's own histogram, (upper end in seconds, count up to it).
        metrics: further figures of its own, by name.
    """

    at: float
    boot: str
    release: str
    restarts: int | None
    memory_bytes: int | None
    deaths: dict[str, int] | None
    out_of_memory: int | None
    latency_s: float | None
    answer: str
    fresh: bool
    buckets: list[tuple[float, float]]
    metrics: dict[str, float]


def read(folder: Path) -> tuple[list[Sample], int]:
    """Return the samples in a folder in their order, and how many lines were none.

    Raises:
        ModelOpsError: there is no such folder, or a file of it is none of a sampler's.
        OSError: it may not be read.
    """
    try:
        files = sorted(path for path in folder.iterdir() if FILE.fullmatch(path.name))
    except FileNotFoundError:
        raise ModelOpsError(
            "no sampler writes here",
            where=folder,
            remedy="Install it: playbooks/setup_acceptance.yml.",
        ) from None
    found: deque[Sample] = deque(maxlen=MOST_SAMPLES)
    damaged = 0
    for path in files[-MOST_FILES:]:
        with opener.opened(path, LARGEST_FILE) as handle:
            while line := handle.readline(LONGEST_LINE):
                sample = parse(line)
                damaged += sample is None and bool(line.strip())
                if sample is not None:
                    found.append(sample)
    return list(found), damaged


def parse(line: bytes) -> Sample | None:
    """Return the sample of a line; None where it is none."""
    try:
        said = json.loads(line)
        if not isinstance(said, dict) or said.get("v") != SCHEMA:
            return None
        return _sample(said)
    except (ValueError, RecursionError):
        return None


def _sample(said: Mapping[str, Any]) -> Sample:
    metrics = said.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    deaths = said.get("deaths")
    if deaths is not None and not (isinstance(deaths, dict) and len(deaths) <= 20):
        raise ValueError("deaths")
    return Sample(
        at=_number(said.get("at")),
        boot=_text(said.get("boot"), re.compile(r"[0-9a-f-]{1,64}")),
        release=_text(said.get("release", ""), _RELEASE),
        restarts=_maybe(_count, said.get("restarts")),
        memory_bytes=_maybe(_count, said.get("memory_bytes")),
        deaths=None if deaths is None else {_name(k): _count(n) for k, n in deaths.items()},
        out_of_memory=_maybe(_count, said.get("out_of_memory")),
        latency_s=_maybe(_number, said.get("latency_s")),
        answer=_text(said.get("answer", ""), re.compile(r"[a-z0-9 ]{0,60}")),
        fresh=said.get("fresh") is True,
        buckets=_buckets(metrics.get("buckets") or []),
        metrics={
            name: _number(metrics[name])
            for name in ("cache_hits", "cache_misses", "cache_hit_rate", "latency_p50_s")
            if name in metrics
        },
    )


def _buckets(said: Any) -> list[tuple[float, float]]:
    """Return a histogram; the last end may be missing, which is infinity."""
    if not isinstance(said, list) or len(said) > MOST_BUCKETS:
        raise ValueError("buckets")
    found = []
    for one in said:
        if not isinstance(one, list) or len(one) != 2:
            raise ValueError("a bucket")
        found.append((math.inf if one[0] is None else _number(one[0]), _number(one[1])))
    if found != sorted(found) or len({end for end, _ in found}) < len(found):
        raise ValueError("the order of buckets")
    return found


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no number")
    if not 0 <= value < LARGEST:  # NaN is none either
        raise ValueError("out of range")
    return float(value)


def _count(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("no count")
    return int(_number(value))


def _maybe(look: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else look(value)


def _text(value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError("no such text")
    return value


def _name(value: Any) -> str:
    return _text(value, re.compile(r"[a-z-]{1,40}"))
