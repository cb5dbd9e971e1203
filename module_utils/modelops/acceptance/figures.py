"""The figures of the last days of a service, of its samples. Standard library only.

Only samples of the release that is in service now count. A figure comes with how many samples it is
of, and which share of the window those cover: of so many equal slots as samples should be there,
the share of slots that have one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from .samples import Sample

DAY_S = 86400
FUTURE_S = 60  # a sample may be this much ahead of the clock


def of(samples: Sequence[Sample], days: Iterable[int], every_s: float, now: float) -> Any:
    """Return the figures of each window that ends now.

    Args:
        days: how long each window is.
        every_s: seconds from one sample to the next.
        now: seconds of the epoch, by the clock of the samples.

    Returns:
        `release`, and `windows`: days (as text) -> figures; see `window`.
    """
    release = samples[-1].release if samples else ""
    own = [s for s in samples if s.release == release and s.at <= now + FUTURE_S]
    windows = {str(length): window(own, length, every_s, now) for length in days}
    return {"release": release, "windows": windows}


def window(samples: Iterable[Sample], days: int, every_s: float, now: float) -> dict[str, Any]:
    """Return the figures of the samples of the last `days` days.

    Returns:
        For `probe`, `requests`, `memory`, `cache` and `journal` a dictionary of the figures, the
        `count` of samples that have them, and the `share` of the window that those cover.
        `moves` tells whether a figure was not the same in every sample. `trend` has a row a day:
        its begin, the median latency of the probe (s) and the P99 of the memory (bytes).
    """
    begin = now - days * DAY_S
    inside = [sample for sample in samples if sample.at > begin]

    def covered(chosen: list[Sample]) -> dict[str, Any]:
        slots = max(1, round(days * DAY_S / every_s))
        seen = {min(slots, math.ceil((sample.at - begin) / every_s)) for sample in chosen}
        return {"count": len(chosen), "share": len(seen) / slots}

    probed = [s for s in inside if s.latency_s is not None]
    weighed = [s for s in inside if s.memory_bytes is not None]
    counted = [s for s in inside if s.buckets or "latency_p50_s" in s.metrics]
    told = [s for s in inside if s.deaths is not None and s.out_of_memory is not None]
    latencies = [s.latency_s for s in probed if s.latency_s is not None]
    sizes = [float(s.memory_bytes) for s in weighed if s.memory_bytes is not None]
    deaths: Counter[str] = Counter()
    for sample in told:
        deaths.update(sample.deaths or {})
    return {
        "probe": {
            **covered(probed),
            "p50_s": percentile(latencies, 50),
            "p95_s": percentile(latencies, 95),
            "moves": moves(latencies),
            "asked": sum(bool(s.answer) for s in inside),
            "fresh": all(s.fresh for s in probed),
        },
        "memory": {
            **covered(weighed),
            "p99_bytes": percentile(sizes, 99),
            "max_bytes": max(sizes, default=None),
            "moves": moves(sizes),
        },
        "journal": {
            **covered(told),
            "deaths": dict(deaths),
            "out_of_memory": sum(s.out_of_memory or 0 for s in told),
            "restarts": restarts(inside),
            "boots": len({s.boot for s in inside}),
        },
        "requests": requests(counted) | covered(counted),
        "cache": cache(inside) | covered([s for s in inside if _has_cache(s)]),
        "trend": trend(inside),
    }


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that so many percent of all do not exceed (nearest rank).

    None without values. Unlike interpolation it is always a value that was measured.
    """
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def moves(values: Sequence[float]) -> bool:
    """Tell whether a figure ever changed: one that never does is a constant, not a measurement."""
    return len(set(values)) > 1


def restarts(samples: Sequence[Sample]) -> int:
    """Return how often systemd started the unit again; its count begins anew with each boot."""
    total = 0
    for before, after in pairwise(s for s in samples if s.restarts is not None):
        was = before.restarts or 0
        now = after.restarts or 0
        total += now - was if after.boot == before.boot and now >= was else now
    return total


def requests(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the median latency of real requests by the service's own metrics.

    Of a histogram's growth in the window, where there is one; else of what a summary or a gauge
    says. `requests` is how many there were; None where that is not known.
    """
    grown = growth([dict(sample.buckets) for sample in samples if sample.buckets])
    if grown:
        asked = grown[max(grown)]
        return {"p50_s": quantile(grown, 0.5), "requests": asked, "moves": asked > 0}
    said = [s.metrics["latency_p50_s"] for s in samples if "latency_p50_s" in s.metrics]
    return {"p50_s": percentile(said, 50), "requests": None, "moves": moves(said)}


def growth(counts: Sequence[dict[Any, float]]) -> dict[Any, float]:
    """Return by how much counters grew from the first to the last; all are of one service.

    One that fell began anew, as Prometheus' increase() has it. Empty for less than two looks.
    """
    total: dict[Any, float] = {}
    for before, after in pairwise(counts):
        anew = any(after.get(key, 0.0) < was for key, was in before.items())
        for key, now in after.items():
            total[key] = total.get(key, 0.0) + now - (0.0 if anew else before.get(key, 0.0))
    return total


def quantile(buckets: dict[float, float], part: float) -> float | None:
    """Return a quantile of a histogram, evenly spread within its bucket.

    As Prometheus' histogram_quantile(), but that infinity is the answer in the last bucket, of
    which nobody knows how long it took. None of an empty one.
    """
    ends = sorted(buckets)
    wanted = part * buckets[ends[-1]]
    if wanted <= 0:
        return None
    below, begin = 0.0, 0.0
    for end in ends:
        if buckets[end] >= wanted:
            inside = buckets[end] - below
            return end if math.isinf(end) else begin + (end - begin) * (wanted - below) / inside
        below, begin = buckets[end], end
    return math.inf


def _has_cache(sample: Sample) -> bool:
    return {"cache_hits", "cache_misses"} <= set(sample.metrics) or (
        "cache_hit_rate" in sample.metrics
    )


def cache(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the hit rate of the service's cache, 0 to 1, as a value and its bounds.

    Of counters, where there are any: what was asked in the window but for the sampler's own
    questions, which may have been hits or misses. Else the median of what a gauge says.
    """
    pairs = [
        {name: s.metrics[name] for name in ("cache_hits", "cache_misses")}
        for s in samples
        if {"cache_hits", "cache_misses"} <= set(s.metrics)
    ]
    if pairs:
        grown = growth(pairs)
        hits, asked = grown.get("cache_hits", 0.0), sum(grown.values())
        # The first sample's question was counted before its own look at the counters.
        own = min(asked, float(sum(s.latency_s is not None for s in samples[1:])))
        others = asked - own
        if others <= 0:
            return {"rate": None, "low": None, "high": None, "asked": 0.0, "moves": False}
        low, high = max(0.0, hits - own) / others, min(hits, others) / others
        rate = (low + high) / 2
        return {"rate": rate, "low": low, "high": high, "asked": others, "moves": True}
    said = [s.metrics["cache_hit_rate"] for s in samples if "cache_hit_rate" in s.metrics]
    rate_said = percentile(said, 50)
    return {"rate": rate_said, "low": None, "high": None, "asked": None, "moves": moves(said)}


def trend(samples: Sequence[Sample]) -> list[list[float | None]]:
    """Return a row a day (UTC): its begin, the probe's median (s), the memory's P99 (bytes)."""
    days: dict[int, list[Sample]] = {}
    for sample in samples:
        days.setdefault(int(sample.at // DAY_S), []).append(sample)
    return [
        [
            float(day * DAY_S),
            percentile([s.latency_s for s in own if s.latency_s is not None], 50),
            percentile([float(s.memory_bytes) for s in own if s.memory_bytes is not None], 99),
        ]
        for day, own in sorted(days.items())
    ]
