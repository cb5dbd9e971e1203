"""What is wrong with a release, from what modules told, and what mends it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from modelops.diagnosis import release

ID = "0123456789abcdef"


def asked(**state: Any) -> dict[str, Any]:
    right = {"active": ID, "live": ID, "confirmed": True, "void": {}, "deadline": None}
    return {"state": right | state, "problems": [], "lock": None}


def looked(model: str = "int8", problem: str = "") -> dict[str, Any]:
    return {
        "unit": {"active": "active", "since": "today"}, "healthy": not problem, "problem": problem,
        "served": {"model": model, "proof": "mapped", "text": f"its processes have {model}"},
    }  # fmt: skip


RIGHT = {"config": {"int8": [], "fp32": [{"offset": 1}]}}


def wrong(*arguments: Any, manager: str = "systemd") -> dict[str, str]:
    rows = release.rows(*arguments, manager)
    return {row["id"]: row["level"] for row in rows if row["level"] != "ok"}


def fixes(*arguments: Any) -> list[str]:
    return release.fixes(release.rows(*arguments, "systemd"))


def test_what_is_right_has_rows_without_problem_or_fix():
    assert wrong(asked(), looked(), RIGHT) == {} and fixes(asked(), looked(), RIGHT) == []


def test_damaged_files_are_sent_again():
    found = asked() | {"problems": ["m_int8.onnx.data: SHA-256 differs"]}
    assert wrong(found, looked(), RIGHT) == {"files": "problem"}
    assert fixes(found, looked(), RIGHT) == ["release"]


def test_a_void_release_leaves():
    assert fixes(asked(void={ID: "sounds metallic"}), looked(), RIGHT) == ["rollback"]


@pytest.mark.parametrize("active", [ID, "fp32"])
def test_an_edit_by_hand_is_undone_towards_what_is_active(active):
    edited = {"config": {"int8": [{"offset": 1}], "fp32": [{"offset": 2}]}}
    served = looked("int8" if active == ID else "fp32")
    assert fixes(asked(active=active), served, edited) == [
        "release" if active == ID else "rollback"
    ]


@pytest.mark.parametrize(
    "plan", [{}, {"config": {}}, {"config": {"unreadable": "no YAML"}},
             {"config": {"content": "a: 1", "int8": [1]}}],
)  # fmt: skip
def test_a_configuration_that_is_not_read_is_no_drift(plan):
    assert wrong(asked(), looked(), plan) == {}


def test_a_service_that_is_down_or_serves_another_file_is_restarted():
    assert wrong(asked(), looked(problem="it is failed"), RIGHT) == {"down": "problem"}
    assert fixes(asked(), looked(problem="it is failed"), RIGHT) == ["restart"]
    assert wrong(asked(), looked("fp32"), RIGHT) == {"served": "problem"}
    assert fixes(asked(), looked("fp32"), RIGHT) == ["restart"]


def test_what_could_not_be_proven_is_advice_that_nothing_mends():
    assert wrong(asked(), looked("unknown"), RIGHT) == {"unproven": "advice"}
    assert fixes(asked(), looked("unknown"), RIGHT) == []
    assert wrong(asked(), {}, RIGHT, manager="none") == {}


def test_an_activation_without_a_commit_is_a_runs_or_lost():
    lock = {"owner": "x", "expires": time.time() + 60}
    assert wrong(asked(confirmed=False) | {"lock": lock}, looked(), RIGHT) == {
        "activation": "advice"
    }
    for gone in (None, {"owner": "x", "expires": 1}):
        found = asked(confirmed=False, deadline="2020-01-01T00:00:00+00:00") | {"lock": gone}
        assert fixes(found, looked(), RIGHT) == ["rollback"]
    assert fixes(asked(confirmed=False, deadline="who knows"), looked(), RIGHT) == ["rollback"]


def test_a_host_that_told_nothing_has_no_row():
    assert release.rows({"unreachable": True}, {}, {}, "systemd") == []
