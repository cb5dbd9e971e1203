"""Samples are looked at before they count, and figures are of the window that they cover."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from modelops.acceptance import figures, samples
from modelops.base.errors import ModelOpsError
from sampler import DAY, RELEASE, month, sample

NOW = 1_800_000_000.0
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def parsed(said) -> list[samples.Sample]:
    found = [samples.parse(json.dumps(one).encode()) for one in said]
    assert None not in found
    return found


def week(said, **changes):
    given = {"days": [7], "every_s": 3600, "now": NOW} | changes
    return figures.of(parsed(said), **given)["windows"]["7"]


@given(field=st.sampled_from(sorted(sample(0))), value=JSON)
@example(field="at", value=float("nan"))
@example(field="deaths", value={"\x1b[2J": 1})
@example(field="memory_bytes", value=1 << 70)
@example(field="release", value="../../etc/passwd")
def test_a_line_is_a_sample_or_none(field, value):
    found = samples.parse(json.dumps(sample(1.0) | {field: value}).encode())
    assert found is None or json.dumps(found, allow_nan=True)
    if found is not None:
        assert math.isfinite(found.at)
        assert found.release in ("", "fp32") or len(found.release) == 16


@given(st.binary(max_size=60))
@example(b"[" * 100_000)
@example(b'{"v":1}')
def test_no_line_ends_the_reading(line):
    assert samples.parse(line) is None


@pytest.mark.parametrize(
    "buckets", [[[1, 2], [1, 3]], [[2, 1], [1, 1]], [[1]], [[1, -1]], [[1, 1]] * 50, {"a": 1}]
)
def test_a_histogram_that_is_none_is_no_sample(buckets):
    line = json.dumps(sample(1.0, metrics={"buckets": buckets})).encode()
    assert samples.parse(line) is None


def test_a_target_without_a_sampler_says_what_to_do(tmp_path):
    with pytest.raises(ModelOpsError, match=r"setup_acceptance\.yml"):
        samples.read(tmp_path / "none")
    (tmp_path / "samples-00000001.jsonl").symlink_to("/etc/hostname")
    with pytest.raises(ModelOpsError, match="symbolic link"):
        samples.read(tmp_path)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_measured_value_that_so_many_do_not_exceed(values, percent):
    found = figures.percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values)
    assert sum(value < found for value in values) < percent / 100 * len(values)


def test_a_percentile_of_nothing_is_none():
    assert figures.percentile([], 50) is None


def test_a_window_tells_which_share_of_it_was_seen():
    whole = week(month(NOW))
    assert whole["memory"]["share"] == 1 and whole["memory"]["count"] == 168
    assert whole["memory"]["p99_bytes"] == 1_200_000_006
    half = week(month(NOW)[:-84])  # the sampler died
    assert half["memory"]["share"] == 0.5
    # Many samples within one slot cover that slot alone.
    assert week([sample(NOW - 1 + i / 1000, i) for i in range(500)])["memory"]["share"] < 0.01


def test_samples_of_another_release_and_of_the_future_do_not_count():
    said = month(NOW, release="f" * 16)[:-10] + month(NOW)[-10:]
    assert week(said)["memory"]["count"] == 10
    assert figures.of(parsed(said), [7], 3600, NOW)["release"] == RELEASE
    assert week([*month(NOW)[-5:], sample(NOW + 10 * DAY)])["memory"]["count"] == 5


def test_what_could_not_be_seen_is_no_zero():
    said = [one | {"memory_bytes": None, "latency_s": None, "deaths": None} for one in month(NOW)]
    found = week(said)
    assert found["memory"]["p99_bytes"] is None and found["memory"]["share"] == 0
    assert found["probe"]["p50_s"] is None and found["probe"]["asked"] == 168
    assert found["journal"]["count"] == 0


def test_deaths_and_restarts_are_summed_over_boots():
    said = month(NOW)[-6:]
    said[1] |= {"deaths": {"signal": 2, "oom-kill": 1}, "out_of_memory": 1, "restarts": 3}
    said[2] |= {"restarts": 3}
    said[3] |= {"boot": "b1", "restarts": 1, "deaths": {"signal": 1}}
    said[4] |= {"boot": "b1", "restarts": 1}
    said[5] |= {"boot": "b1", "restarts": 2}
    found = week(said)["journal"]
    assert found["deaths"] == {"signal": 3, "oom-kill": 1}
    assert (found["out_of_memory"], found["restarts"], found["boots"]) == (1, 5, 2)


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=4))
def test_counters_grow_over_restarts(lives):
    """Each life of the service counts from 0; the first look of all is where the window begins."""
    looks, total = [], 0
    for life in lives:
        value = 0
        for index, step in enumerate(life):
            value += step
            total += step if looks else 0
            # A life that begins where the last one was cannot be told from one that goes on.
            if index == 0 and looks and value >= looks[-1]["n"]:
                total -= looks[-1]["n"]
            looks.append({"n": float(value)})
    grown = figures.growth(looks)
    assert grown == ({"n": pytest.approx(total)} if len(looks) > 1 else {})


@pytest.mark.parametrize(
    ("buckets", "median"),
    [
        ({1.0: 0, 2.0: 10, math.inf: 10}, 1.5),
        ({1.0: 5, 2.0: 10, math.inf: 10}, 1.0),
        ({1.0: 1, math.inf: 10}, math.inf),
        ({1.0: 0, math.inf: 0}, None),
        ({4.0: 8}, 2.0),
    ],
)
def test_a_quantile_of_a_histogram_lies_within_its_bucket(buckets, median):
    assert figures.quantile(buckets, 0.5) == median


def test_real_requests_come_from_the_growth_of_a_histogram():
    said = [
        one
        | {"metrics": {"buckets": [[1.0, 100.0 + i], [2.0, 100.0 + 4 * i], [None, 100.0 + 4 * i]]}}
        for i, one in enumerate(month(NOW))
    ]
    found = week(said)["requests"]
    assert found["p50_s"] == pytest.approx(1 + 1 / 3) and found["moves"] and found["share"] == 1
    still = [one | {"metrics": {"buckets": [[1.0, 7.0], [None, 9.0]]}} for one in month(NOW)]
    assert not week(still)["requests"]["moves"]
    constant = [one | {"metrics": {"latency_p50_s": 25.4}} for one in month(NOW)]
    assert not week(constant)["requests"]["moves"]


def test_the_samplers_own_questions_do_not_make_a_hit_rate():
    grown = week(month(NOW))["cache"]  # 167 steps of 80 hits and 20 misses, 167 of them ours
    assert grown["asked"] == 167 * 99
    assert grown["low"] == pytest.approx(79 / 99) and grown["high"] == pytest.approx(80 / 99)
    ours = [one | {"metrics": {"cache_hits": float(i), "cache_misses": 0.0}}
            for i, one in enumerate(month(NOW))]  # fmt: skip
    assert week(ours)["cache"]["rate"] is None
    gauge = [one | {"metrics": {"cache_hit_rate": 0.73}} for one in month(NOW)]
    assert week(gauge)["cache"]["moves"] is False


def test_the_trend_has_a_row_a_day():
    rows = week(month(NOW))["trend"]
    assert 7 <= len(rows) <= 8
    assert all(row[0] % DAY == 0 and row[1] and row[2] for row in rows)
