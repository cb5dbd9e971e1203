"""What a run changed in service, as others are told."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.reporting import event

ID, OTHER = "0123456789abcdef", "fedcba9876543210"
NOW = 1_800_000_000.5


def host(name: str = "h1", **facts: object) -> dict[str, object]:
    return {"inventory_hostname": name, **facts}


def one(**facts: object) -> dict[str, str]:
    (told,) = event.events([host(**facts)], "m", NOW)["events"]
    return told


def changed(active: str, changed: bool = True) -> dict[str, object]:
    return {"changed": changed, "state": {"active": active}}


def test_a_promise_that_was_broken_is_told_until_something_is_done():
    row = {"window": "week", "promise": "crashes", "measured": "1", "wanted": "<= 0"}
    weeks = {
        "__acceptance_rows": [{**row, "verdict": "fail"}, {**row, "verdict": "not yet"}],
        "__acceptance_figures": {"release": ID},
    }
    text = "week: crashes is 1, promised <= 0"
    assert one(**weeks) == {
        "host": "h1", "event": "promise_broken", "release": ID, "active": ID, "text": text,
    }  # fmt: skip
    done = changed("fp32")
    assert one(**weeks, __rollback_result=done)["event"] == "rolled_back"
    kept = [{**row, "verdict": verdict} for verdict in ("pass", "not yet", "not measured")]
    assert event.events([host(__acceptance_rows=kept)], "m", NOW)["events"] == []


def test_a_release_a_revert_a_rollback_and_a_failure():
    run = {"__transfer_manifest": {"release_id": ID}, "__release_outcome": " in service\n(mapped)"}
    told = one(**run, __activate_commit=changed(ID))
    assert told == {
        "host": "h1", "event": "released", "release": ID, "active": ID,
        "text": "in service (mapped)",
    }  # fmt: skip
    told = one(**run, __activate_reverted=changed("fp32"))
    assert (told["event"], told["release"], told["active"]) == ("reverted", ID, "fp32")
    before = {"state": {"active": OTHER}}
    told = one(__rollback_before=before, __rollback_result=changed("fp32"))
    assert (told["event"], told["release"], told["active"]) == ("rolled_back", OTHER, "fp32")
    told = one(**run, __activate_reverted=changed(OTHER, changed=False))
    assert (told["event"], told["release"], told["active"]) == ("failed", ID, OTHER)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"__activate_commit": changed(ID, changed=False)},
        {"__activate_commit": {"skipped": True, "changed": False}},
        {"__rollback_result": changed("fp32", changed=False)},
        {"__activate_reverted": {"skipped": True, "changed": False}},
    ],
)
def test_what_changed_nothing_is_no_event(facts):
    assert event.events([host(**facts)], "m", NOW)["events"] == []


def test_an_id_that_is_none_is_refused():
    with pytest.raises(ModelOpsError):
        one(__activate_commit=changed("../../etc"))


def test_the_signature_is_of_the_bytes_that_are_sent():
    told = event.events([host("ñ", __activate_commit=changed(ID))], "m", NOW)
    body = event.body(told)
    assert json.loads(body) == told
    wanted = hmac.new(b"clave", body.encode(), hashlib.sha256).hexdigest()
    assert event.signature(body, "clave") == f"sha256={wanted}"


@given(st.text(), st.text())
def test_whatever_hosts_are_called_the_files_are_apart_and_whole(a, b):
    hosts = [host(name, __activate_commit=changed(ID)) for name in (a, b)]
    told = event.events(hosts, "m", NOW)
    files = event.textfiles(told)
    shown = {one["host"] for one in told["events"]}
    assert len({one["name"] for one in files}) == len(shown)
    for made in files:
        assert "/" not in made["name"] and made["name"].isascii()
        assert [line[:1] for line in made["content"].splitlines()] == ["#", "#", "m"]
        assert made["content"].endswith(f"}} {int(NOW)}\n")


def test_labels_are_escaped():
    told = event.events([host('a"b\\c', __activate_commit=changed(ID))], "m", NOW)
    assert r'host="a\"b\\c"' in event.textfiles(told)[0]["content"]


def test_who_was_not_told_is_named_by_his_place():
    results = [{"status": 204}, {"status": 503, "url": "https://x/SECRET"}, {"status": -1}, {}]
    assert event.untold(results, [200, 204]) == [
        "webhook 2 of 4 was not told: it answered 503",
        "webhook 3 of 4 was not told: it did not answer",
        "webhook 4 of 4 was not told: it did not answer",
    ]
