"""The report of a run, from the facts of its hosts."""

from __future__ import annotations

import pytest
from modelops.judging import gates
from modelops.reporting import gather, text

ENTRIES = {"source": [{"name": "a.onnx", "size": 4000, "sha256": "1" * 64}],
           "artifacts": [{"name": "a_int8.onnx", "size": 1000, "sha256": "2" * 64}]}  # fmt: skip
KEPT = {"node": "head", "op": "MatMul", "form": "fp32", "reason": "too small", "weight": "w"}
MANIFEST = {"release_id": "0123456789abcdef", "nodes": [KEPT, {**KEPT, "form": "dynamic_int8"}]}
PROMISE = {"name": "size_reduction", "op": ">=", "threshold": 0.74, "required": False}


def measured(cosine: float) -> dict:
    gate = {"name": "cosine_min", "op": ">", "threshold": 0.98}
    judged = gates.judge([gate], {"cosine_min": cosine})
    return {"judged": judged, "notes": ["Measured."], "verdict": gates.overall(judged)}


def hosts(**target):
    builder = {
        "inventory_hostname": "b",
        "__quantize_manifest": {**MANIFEST, **ENTRIES},
        "__quantize_gate": measured(0.99),
    }
    return builder, [{"inventory_hostname": "t", **target}]


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        ({}, "pass"),
        ({"__validate_measured": measured(0.5)}, "fail"),
        ({"__validate_measured": measured(0.99), "__validate_verdict": "inconclusive"},
         "inconclusive"),
    ],
)  # fmt: skip
def test_the_worst_verdict_of_all_hosts_is_that_of_the_release(target, verdict):
    builder, targets = hosts(**target)
    found = gather.report(builder, targets, [PROMISE])
    assert (found["release"], found["verdict"]) == (MANIFEST["release_id"], verdict)
    assert set(found["tables"]) == {"b", *(["t"] if target else [])}
    assert found["kept_fp32"] == [KEPT]


def test_a_run_that_knew_no_release_has_an_empty_report():
    found = gather.report({"inventory_hostname": "b"}, [{"inventory_hostname": "t"}], [])
    assert (found["release"], found["verdict"]) == ("", "not measured")
    assert found["outcomes"] == found["tables"] == {} and found["source"] == []
    assert "None." in text.markdown(found)


def test_without_the_builder_the_release_is_that_of_a_target():
    manifest = {**MANIFEST, **ENTRIES}
    target = {"inventory_hostname": "t", "__transfer_manifest": manifest}
    found = gather.report({"inventory_hostname": "b"}, [target], [])
    assert found["release"] == MANIFEST["release_id"]


@pytest.mark.parametrize(("active", "told"), [("fp32", True), ("other", False)])
def test_memory_that_the_service_gave_back_is_told_once_it_was_moved_from_fp32(active, told):
    builder, targets = hosts(
        __validate_measured=measured(0.99),
        __validate_serves={"proof": "mapped", "text": "INT8"},
        __transfer_state={"state": {"active": active}},
        __sarai_service_look={"rss_bytes": 4.4e9},
        __sarai_service_health={"rss_bytes": 1.2e9},
    )
    found = gather.report(builder, targets, [PROMISE])
    assert ("4.4 GB on FP32 and 1.2 GB" in found["freed"].get("t", "")) is told
    assert "What the service serves (mapped): INT8." in found["notes"]["t"]


def test_text_and_markdown_tell_outcome_figures_notes_and_files():
    builder, targets = hosts(__release_outcome=" in service \n")
    found = gather.report(builder, targets, [PROMISE])
    shown, markdown = text.text(found), text.markdown(found)
    for written in (shown, markdown):
        assert "t: in service\n" in written and "cosine similarity" in written
        assert "Measured." in written and "75.0 %" in written
    assert "2" * 64 in markdown and "MatMul `head`: too small" in markdown


def test_only_a_required_gate_that_did_not_pass_is_said_to_have_failed():
    rows = gates.judge(
        [
            {"name": "cosine_min", "op": ">", "threshold": 0.98},
            {"name": "mse", "op": "<", "threshold": 0.01},
            {"name": "mae", "op": "<", "threshold": 0.01, "required": False},
            {"name": "speedup", "op": ">=", "threshold": 1},
        ],
        {"cosine_min": 0.5, "mse": 0.001, "mae": 1.0},
    )
    assert gates.failed(rows) == [
        "cosine_min 0.5 is not > 0.98 (fail)",
        "speedup None is not >= 1.0 (inconclusive: not measured)",
    ]
