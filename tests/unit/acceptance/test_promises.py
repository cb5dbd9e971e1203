"""What was promised for the weeks after a release: nothing passes that was not seen."""

from __future__ import annotations

import html
import json
import time
from pathlib import Path

import pytest
import yaml
from modelops.acceptance import complaints, document, figures, promises, samples
from modelops.base.errors import ModelOpsError
from modelops.base.json_values import json_safe
from modelops.pair import received
from modelops.reporting import acceptance
from sampler import ROOT, month

NOW = time.time()
PROMISES = [
    {"window": "week", "days": 7, "name": "latency_p50_s", "op": "<", "threshold": 2.5},
    {"window": "week", "days": 7, "name": "memory_p99_bytes", "op": "<", "threshold": 1.5e9},
    {"window": "week", "days": 7, "name": "out_of_memory", "op": "<=", "threshold": 0},
    {"window": "week", "days": 7, "name": "cache_hit_rate", "op": ">", "threshold": 0.6},
    {"window": "week", "days": 7, "name": "complaints", "op": "<=", "threshold": 0},
    {"window": "month", "days": 30, "name": "crashes", "op": "<=", "threshold": 0},
    {"window": "month", "days": 30, "name": "wer", "op": "<", "threshold": 0.05},
    {"window": "month", "days": 30, "name": "mos", "op": ">", "threshold": 4.0},
    {"window": "month", "days": 30, "name": "emotion_accuracy", "op": ">", "threshold": 0.85},
]
PROMISES = [one | {"promised_threshold": one["threshold"]} for one in PROMISES]
SET = {
    "recordings": 50, "silent": 0, "wer": 0.03, "emotions": 50, "emotion_accuracy": 0.9,
    "confusion": [["calm", "calm", 45], ["calm", "sad", 5]],
    "scores": 80, "mos": {"value": 4.3, "low": 4.1, "high": 4.5},
}  # fmt: skip
WEEKS = ("latency_p50_s", "memory_p99_bytes", "out_of_memory", "cache_hit_rate", "complaints")
TEMPLATES = [ROOT / "roles/acceptance/templates", ROOT / "roles/report/templates"]


def judged(said, listed=(), **more):
    """The rows of a target by the names of their promises; the figures go the way of a result."""
    read = [samples.parse(json.dumps(one).encode()) for one in said]
    made = figures.of(read, [7, 30], 3600, NOW)
    sent = received.checked("acceptance_figures", {}, json.loads(json.dumps(json_safe(made))))
    given = {"share_min": 0.9, "evaluation": SET} | more
    rows = promises.judge(sent, PROMISES, listed, "t1", **given)
    return {row["name"]: row for row in rows}


def each(change, **more):
    """The samples of a month, each changed by its number."""
    return [one | change(i) for i, one in enumerate(month(NOW, **more))]


def metrics(**named):
    return {"metrics": named}


def changed(field, value, said=None):
    return [one | {field: value} for one in said or month(NOW)]


def test_what_was_kept_passes_with_its_source_and_share():
    rows = judged(month(NOW))
    assert {row["verdict"] for row in rows.values()} == {"pass"}
    assert all(row["source"] and row["samples"] and row["share"] > 0.99 for row in rows.values())
    assert rows["latency_p50_s"]["measured"] == "1.2 s"
    assert rows["crashes"]["samples"] == 720
    assert promises.overall(rows.values()) == "pass" and not promises.failed(rows.values())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("latency_p50_s", each(lambda i: {"latency_s": 2.5 + i % 3})),
        ("memory_p99_bytes", each(lambda i: {"memory_bytes": 1_500_000_000 + i % 2})),
        ("out_of_memory", changed("out_of_memory", 1)),
        ("out_of_memory", changed("deaths", {"oom-kill": 1})),
        ("cache_hit_rate", each(lambda i: metrics(cache_hits=50.0 * i, cache_misses=50.0 * i))),
        ("crashes", changed("deaths", {"signal": 1})),
    ],
)  # fmt: skip
def test_what_was_not_kept_fails(name, said):
    rows = judged(said)
    assert rows[name]["verdict"] == "fail", rows[name]
    assert promises.overall(rows.values()) == "fail"
    assert rows[name]["promise"] in promises.failed(rows.values())


def test_a_window_that_is_not_covered_is_not_yet():
    rows = judged(month(NOW, days=3))
    assert {rows[name]["verdict"] for name in (*WEEKS, "crashes")} == {"not yet"}
    assert "of 7 days" in rows["latency_p50_s"]["note"]
    gone = judged(month(NOW)[:-72])  # three days ago the sampler died
    assert gone["latency_p50_s"]["verdict"] == "not yet"
    slow = judged(each(lambda i: {"latency_s": 9.0 + i % 2}, days=3))
    assert slow["latency_p50_s"]["verdict"] == "not yet"


def test_one_death_fails_before_the_window_ends():
    said = month(NOW, days=1)
    said[3] |= {"deaths": {"oom-kill": 1, "start-limit-hit": 1}, "out_of_memory": 1}
    rows = judged(said)
    assert (rows["out_of_memory"]["verdict"], rows["out_of_memory"]["figure"]) == ("fail", 1)
    assert (rows["crashes"]["verdict"], rows["crashes"]["figure"]) == ("fail", 1)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("latency_p50_s", "latency_s", 0.73),
        ("memory_p99_bytes", "memory_bytes", 1_200_000_000),
        ("cache_hit_rate", "metrics", {"cache_hit_rate": 0.73}),
        ("cache_hit_rate", "metrics", {"cache_hits": 73.0, "cache_misses": 27.0}),
        ("latency_p50_s", "latency_s", None),
        ("memory_p99_bytes", "memory_bytes", None),
        ("cache_hit_rate", "metrics", {}),
        ("out_of_memory", "deaths", None),
        ("crashes", "out_of_memory", None),
    ],
)
def test_what_never_moves_or_was_not_seen_is_not_measured(name, field, value):
    assert judged(changed(field, value))[name]["verdict"] == "not measured"


def test_fp32_and_a_target_without_samples_keep_no_promise_of_int8():
    for rows in (judged(changed("release", "fp32")), judged([])):
        assert {row["verdict"] for row in rows.values()} == {"not measured"}
    rows = promises.judge({"failed": True, "msg": "x"}, PROMISES, [], "t1", 0.9)
    assert {row["verdict"] for row in rows} == {"not measured"}


def test_a_rate_that_our_own_questions_decide_is_inconclusive():
    said = each(lambda i: metrics(cache_hits=1.6 * i, cache_misses=1.0 * i))
    assert judged(said)["cache_hit_rate"]["verdict"] == "inconclusive"


def test_a_question_that_a_cache_may_know_is_told():
    assert judged(month(NOW))["latency_p50_s"]["source"] == "probe question"
    told = judged(changed("fresh", False))["latency_p50_s"]["source"]
    assert told == "probe question, the same each time"


def test_real_requests_stand_before_the_probe():
    said = each(lambda i: metrics(buckets=[[1.0, 0.0], [5.0, 4.0 * i], [None, 4.0 * i]]))
    row = judged(said)["latency_p50_s"]
    assert (row["verdict"], row["figure"]) == ("fail", 3.0)
    assert "the probe question: 1.2 s" in row["note"]
    endless = each(lambda i: metrics(buckets=[[1.0, 0.0], [None, 4.0 * i]]))
    assert judged(endless)["latency_p50_s"]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({"wer": 0.05}, "wer", "fail"),
        ({"recordings": 0}, "wer", "not measured"),
        ({"emotion_accuracy": 0.85}, "emotion_accuracy", "fail"),
        ({"emotions": 0, "emotion_accuracy": None}, "emotion_accuracy", "not measured"),
        ({"mos": {"value": 3.9, "low": 3.8, "high": 3.95}}, "mos", "fail"),
        ({"mos": {"value": 4.1, "low": 3.8, "high": 4.4}}, "mos", "inconclusive"),
        ({"mos": None, "scores": 1}, "mos", "not measured"),
    ],
)
def test_what_an_evaluation_set_says(changes, name, verdict):
    row = judged(month(NOW), evaluation=SET | changes)[name]
    assert row["verdict"] == verdict
    assert judged(month(NOW), evaluation=None)[name]["verdict"] == "not measured"


def test_complaints_of_this_target_and_window_count():
    day = time.strftime("%Y-%m-%d", time.gmtime(NOW - 86400))
    listed = complaints.parse(f"date,host,text\n{day},t1,slow\n{day},t2,no\n2001-01-01,,old\n")
    row = judged(month(NOW), listed)["complaints"]
    assert (row["verdict"], row["figure"]) == ("fail", 1)
    assert judged(month(NOW), complaints.parse("date,text\n"))["complaints"]["verdict"] == "pass"
    assert judged(month(NOW), None)["complaints"]["verdict"] == "not measured"


@pytest.mark.parametrize(
    "text", ["", "when,what\n", "date,text,color\n", "date,text\nyesterday,x\n2026-13-01,y\n",
             "date,text\n2026-01-01,a,b\n", "date,text\n2026-01-01\n2,3\n"],
)  # fmt: skip
def test_a_list_of_complaints_that_is_none_is_refused(text):
    with pytest.raises(ModelOpsError, match="date,host,text") as raised:
        complaints.parse(text)
    if "yesterday" in text:
        assert "line 2" in str(raised.value) and "line 3" in str(raised.value)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("probe", "p50_s", "nan"), ("probe", "share", 1.5), ("memory", "p99_bytes", -1),
        ("journal", "deaths", {"x": "y"}), ("cache", "rate", "inf"), ("memory", "count", "9"),
        ("requests", "p50_s", "<b>"), ("probe", "moves", 1),
    ],
)  # fmt: skip
def test_figures_that_are_none_are_refused(part, field, value):
    made = figures.of([], [7], 3600, NOW)
    made["windows"]["7"][part][field] = value
    with pytest.raises(ModelOpsError, match="never sends"):
        received.checked("acceptance_figures", {}, made)


def test_the_roles_promises_are_those_of_the_owner():
    said = yaml.safe_load((ROOT / "roles/acceptance/vars/main.yml").read_text())
    promised = {one["name"]: one["promised_threshold"] for one in said["__acceptance_promises"]}
    assert promised == {one["name"]: one["threshold"] for one in PROMISES}
    assert set(promised) <= set(promises.VIEWS)


def page(**changes):
    host = {
        "inventory_hostname": "t1",
        "__acceptance_rows": list(judged(month(NOW)).values()),
        "__acceptance_evaluation": SET,
    }
    return document.of([host | changes])


def test_the_page_shows_every_promise_and_writes_the_same_bytes_again(tmp_path):
    found = page()
    files = acceptance.files(found, tmp_path, TEMPLATES)
    assert files == acceptance.files(page(), tmp_path, TEMPLATES)
    assert sorted(path.name for path in files) == [
        "acceptance.html", "acceptance.json", "acceptance.md",
    ]  # fmt: skip
    for told in (acceptance.text(found), *(text.decode() for text in files.values())):
        shown = html.unescape(told)
        for row in found["hosts"][0]["rows"]:
            assert row["promise"] in shown and row["source"] in shown
        assert "taken for" in shown or "confusion" in shown


def test_what_a_target_says_is_text_on_every_page(tmp_path):
    attack = "<script>x</script>\x1b[2J\n# Release"
    found = page(inventory_hostname=attack, __acceptance_figures={"failed": True, "msg": attack})
    files = acceptance.files(found, Path(tmp_path), TEMPLATES)
    shown = files[tmp_path / "acceptance.html"].decode()
    assert "<script" not in shown and "\x1b" not in shown
    assert "\x1b" not in acceptance.text(found)
    assert "\n# Release" not in files[tmp_path / "acceptance.md"].decode()
