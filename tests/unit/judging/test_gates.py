"""Gates and the record of measurements."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.judging.gates import (
    FAIL,
    FLOATS,
    INCONCLUSIVE,
    OPERATORS,
    PASS,
    Record,
    json_safe,
    judge,
    overall,
    too_noisy,
)

NUMBERS = st.floats(-1e6, 1e6)


def gate(name="speedup", op=">=", threshold=1.0, **more) -> dict:
    return {"name": name, "op": op, "threshold": threshold, **more}


def verdict(figure, **fields) -> str:
    fields = gate(**fields)
    return judge([fields], {fields["name"]: figure})[0]["verdict"]


@given(figure=NUMBERS, threshold=NUMBERS, op=st.sampled_from(sorted(OPERATORS)))
def test_a_plain_figure_passes_exactly_when_the_relation_holds(figure, threshold, op):
    holds = {
        "<": figure < threshold,
        "<=": figure <= threshold,
        ">": figure > threshold,
        ">=": figure >= threshold,
    }[op]
    assert verdict(figure, op=op, threshold=threshold) == (PASS if holds else FAIL)


@given(ends=st.tuples(NUMBERS, NUMBERS), threshold=NUMBERS)
def test_a_spread_decides_only_when_all_of_it_agrees(ends, threshold):
    low, high = sorted(ends)
    figure = {"value": low, "low": low, "high": high}
    expected = PASS if low > threshold else INCONCLUSIVE if high > threshold else FAIL
    assert verdict(figure, op=">", threshold=threshold) == expected


@pytest.mark.parametrize("figure", [None, "", "n/a", [], {"value": None, "low": 1, "high": 2}])
def test_what_was_not_measured_is_inconclusive(figure):
    assert verdict(figure) == INCONCLUSIVE
    assert judge([gate()], {})[0]["verdict"] == INCONCLUSIVE


@pytest.mark.parametrize("figure", [math.nan, "nan"])
def test_nan_fails_a_similarity_and_leaves_anything_else_open(figure):
    for name in FLOATS:
        for op in OPERATORS:
            assert verdict(figure, name=name, op=op) == FAIL
    assert verdict(figure, name="speedup") == INCONCLUSIVE


def test_promises_are_reported_and_never_decide():
    promise = gate(threshold=2.5, required=False)
    rows = judge([gate(), promise], {"speedup": 2.0})
    assert [row["verdict"] for row in rows] == [PASS, FAIL]
    assert overall(rows) == PASS
    assert overall(judge([promise], {})) == PASS


def test_the_worst_required_gate_decides():
    figures = {"speedup": 2.0, "mse": 1.0}
    unknown, good, bad = gate(name="other"), gate(), gate(name="mse", op="<", threshold=0.01)
    assert overall(judge([good, unknown], figures)) == INCONCLUSIVE
    assert overall(judge([good, unknown, bad], figures)) == FAIL
    assert overall(judge([good], figures)) == PASS


def test_a_changed_threshold_is_shown():
    rows = judge(
        [
            gate(threshold=0.5, promised_threshold=1.0),
            gate(threshold=1, promised_threshold=1.0),
            gate(),
        ],
        {"speedup": 2},
    )
    assert [row["changed_threshold"] for row in rows] == [True, False, False]
    assert [row["promised_threshold"] for row in rows] == [1.0, 1.0, None]


def test_only_noise_is_worth_measuring_again():
    noisy = {"value": 1.1, "low": 0.9, "high": 1.3}
    assert too_noisy(judge([gate()], {"speedup": noisy}))
    assert not too_noisy(judge([gate(threshold=0.5)], {"speedup": noisy}))
    assert not too_noisy(judge([gate()], {}))


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "=="},
        {"threshold": "fast"},
        {"threshold": math.nan},
        {"promised_threshold": "fast"},
        {"required": "yes"},
        {"unit": "s"},
    ],
)
def test_a_malformed_gate_is_refused(fields):
    with pytest.raises(ModelOpsError, match="malformed"):
        judge([{**gate(), **fields}], {})
    with pytest.raises(ModelOpsError, match="malformed"):
        judge([{"name": "mse"}], {})


def test_rows_survive_json():
    rows = judge([gate(name="mse")], {"mse": math.nan})
    rows += judge([gate()], {"speedup": {"value": 1.0, "low": 0.0, "high": math.inf}})
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert json_safe({"a": [-math.inf, 1, True, None]}) == {"a": ["-inf", 1, True, None]}


KEY = {"models": {"a": "1"}, "runs": 2}


def test_a_record_gives_back_what_was_put_for_exactly_its_key(tmp_path: Path):
    path = tmp_path / "verdict.json"
    Record(path).put(KEY, {"mse": math.nan, "rows": [1.5]})
    Record(path).put({**KEY, "runs": 3}, {"mse": 0.1})
    record = Record(path)
    assert record.get(KEY) == {"mse": "nan", "rows": [1.5]}
    assert record.get({**KEY, "runs": 3}) == {"mse": 0.1}
    assert record.get({**KEY, "runs": 4}) is None
    assert record.notes == []
    assert Record(tmp_path / "none.json").is_empty


def test_equal_records_have_equal_bytes(tmp_path: Path):
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    other = {**KEY, "runs": 3}
    for path, keys in ((one, (KEY, other)), (two, (other, dict(reversed(KEY.items()))))):
        for key in keys:
            Record(path).put(key, {"b": 1, "a": 2})
    assert one.read_bytes() == two.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.json", "2.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": 0, "entries": {}}', '{"schema": 1}', "\x00\xff"]
)
def test_a_broken_record_is_ignored_and_replaced(tmp_path: Path, text: str):
    path = tmp_path / "verdict.json"
    path.write_bytes(text.encode("latin-1"))
    record = Record(path)
    assert record.get(KEY) is None
    assert len(record.notes) == 1
    assert str(path) in record.notes[0]
    record.put(KEY, {"mse": 1})
    assert Record(path).get(KEY) == {"mse": 1}


def test_an_edited_entry_is_not_believed(tmp_path: Path):
    path = tmp_path / "verdict.json"
    Record(path).put(KEY, {"cosine_min": 0.5})
    path.write_text(path.read_text().replace("0.5", "0.999"))
    record = Record(path)
    assert record.get(KEY) is None
    assert "edited" in record.notes[0]


@pytest.mark.parametrize(
    ("figures", "verdicts", "overall_is"),
    [
        (
            {"float_rows": 0, "discrete_rows": 1, "agreement_min": 0.3},
            "not_applicable fail",
            "fail",
        ),
        ({"float_rows": 0, "discrete_rows": 1, "agreement_min": 1}, "not_applicable pass", "pass"),
        ({"float_rows": 1, "discrete_rows": 0, "cosine_min": 0.99}, "pass", "pass"),
        (
            {"float_rows": 1, "discrete_rows": 1, "cosine_min": 0.99, "agreement_min": 0.9},
            "pass fail",
            "fail",
        ),
        ({}, "inconclusive", "inconclusive"),
    ],
)
def test_outputs_that_are_not_floats_are_judged_by_agreement(figures, verdicts, overall_is):
    judged = judge([{"name": "cosine_min", "op": ">", "threshold": 0.98}], figures)
    assert [row["verdict"] for row in judged] == verdicts.split()
    assert overall(judged) == overall_is


def test_a_gate_on_agreement_takes_the_place_of_the_implied_one():
    gates = [
        {"name": "cosine_min", "op": ">", "threshold": 0.98},
        {"name": "agreement_min", "op": ">=", "threshold": 0.2},
    ]
    figures = {"float_rows": 0, "discrete_rows": 2, "agreement_min": 0.3}
    assert overall(judge(gates, figures)) == "pass"
    floats = {"float_rows": 2, "discrete_rows": 0, "cosine_min": 1.0}
    assert [row["verdict"] for row in judge(gates, floats)] == ["pass", "not_applicable"]
    assert overall(judge(gates, floats)) == "pass"
