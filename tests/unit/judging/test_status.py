"""The table of what is in service where."""

from __future__ import annotations

from modelops.judging import status

STATE = {"active": "0123456789abcdef", "confirmed": True, "history": [], "void": {}}


def line(host: dict) -> str:
    return status.text([{"inventory_hostname": "t", **host}]).splitlines()[2]


def asked(state: dict, **more) -> dict:
    return {
        "__status_release": {
            "state": state,
            "kind": "FP16",
            "free_bytes": 5e9,
            "problems": [],
            **more,
        }
    }


def test_a_host_that_did_not_answer_has_a_row_with_the_reason():
    assert "not reached" in line({})
    said = line({"__status_release": {"msg": "first line\nsecond"}})
    assert "unknown" in said and said.endswith("first line second")


def test_what_is_in_service_since_when_and_whether_it_is_confirmed():
    event = {"at": "2026-01-02", "event": "active", "reason": "released"}
    told = line(asked({**STATE, "history": [event]}) | {"__sarai_service_look": {"healthy": True}})
    assert told.split("  ")[0] == "t"
    for part in (STATE["active"], "FP16", "2026-01-02", "healthy", "5 GB", "active released"):
        assert part in told
    assert "FP16, not confirmed" in line(asked({**STATE, "confirmed": False}))
    fresh = line(asked({**STATE, "active": "fp32"}))
    assert "FP32" in fresh and "never released" in fresh and "not asked" in fresh


def test_problems_and_void_releases_stand_below_the_table():
    state = {**STATE, "void": {"fedcba9876543210": "sounds metallic"}}
    told = status.text([{"inventory_hostname": "t", **asked(state, problems=["no graph"])}])
    assert told.splitlines()[-2:] == [
        "t: no graph",
        "t: fedcba9876543210 is void: sounds metallic",
    ]
