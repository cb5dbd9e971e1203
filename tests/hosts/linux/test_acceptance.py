"""The sampler under a real systemd: it watches the stand-in, over its deaths and a boot."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fleet import ADOPT, MODEL, ONE, Fleet, until

FOLDER = f"/var/lib/modelops-acceptance/{MODEL}"
TIMER = f"modelops-acceptance@{MODEL}.timer"
WATCHED = {
    "acceptance_every_s": 2,
    "acceptance_question": {
        "url": "http://127.0.0.1:8080/infer", "body": {"seed": 1}, "vary": "seed",
    },
    "acceptance_metrics": {
        "url": "http://127.0.0.1:8080/metrics", "latency": "sarai_latency_seconds",
        "cache_hits": "sarai_cache_hits_total", "cache_misses": "sarai_cache_misses_total",
    },
}  # fmt: skip


def samples(fleet: Fleet) -> list[dict[str, Any]]:
    """All samples of h1, read as the deploy user."""
    said = fleet.bed.ssh("h1", f"cat {FOLDER}/samples-*.jsonl", check=False).stdout
    return [json.loads(line) for line in said.splitlines()]


def wait(fleet: Fleet, holds: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
    """The first sample from now on that is so."""
    found: list[dict[str, Any]] = []
    before = len(samples(fleet))

    def seen() -> bool:
        found[:] = [one for one in samples(fleet)[before:] if holds(one)]
        return bool(found)

    try:
        until(seen, 60, what)
    except AssertionError:
        show = f"systemctl status --no-pager {TIMER} {TIMER.replace('timer', 'service')}"
        told = fleet.bed.ssh("h1", f"sudo {show}; sudo journalctl --list-boots", check=False)
        raise AssertionError(f"{what}: {samples(fleet)[-3:]}\n{told.stdout}") from None
    return found[0]


def setup(fleet: Fleet, *arguments: str, **variables: Any):
    given = {**WATCHED, **variables}
    done = fleet.run("playbooks/setup_acceptance.yml", "--limit", "h1", *arguments, **given)
    assert done.returncode == 0, done.stdout
    return done


def test_a_service_is_watched_over_deaths_and_boots(fleet):
    done = fleet.run("quantize.yml", *ONE, **ADOPT)
    assert done.returncode == 0, done.stdout
    release = fleet.state("h1")["active"]
    assert "changed=0" not in setup(fleet, "--check").stdout
    assert samples(fleet) == []
    setup(fleet)
    assert "changed=0" in setup(fleet).stdout

    good = wait(fleet, lambda one: one["answer"] == "ok", "no sample came")
    assert good["release"] == release and good["deaths"] == {} and good["active"]
    assert good["memory_bytes"] > 10_000_000 and good["latency_s"] > 0
    assert {"buckets", "cache_hits", "cache_misses"} <= set(good["metrics"])
    mode = fleet.bed.ssh("h1", f"stat -c '%a %U' {FOLDER} {FOLDER}/*.jsonl").stdout.split()
    assert mode == ["750", "noel", "640", "noel"]

    fleet.bed.ssh("h1", "sudo systemctl kill --signal=KILL sarai")
    died = wait(fleet, lambda one: one["deaths"], "its death was not seen")
    assert died["deaths"] == {"signal": 1}

    # Nobody watches while it dies, and the power goes: it is counted once, after the boot.
    until(lambda: fleet.served("h1") == "int8", 30, "systemd did not start it again")
    fleet.bed.ssh("h1", f"sudo systemctl stop {TIMER}")
    fleet.bed.ssh("h1", "sudo systemctl kill --signal=KILL sarai")
    until(lambda: fleet.served("h1") == "int8", 30, "systemd did not start it again")
    fleet.bed.ssh("h1", "sudo journalctl --sync")
    fleet.bed.crash("h1")
    fleet.bed.boot("h1")
    after = wait(fleet, lambda one: one["boot"] != good["boot"], "no sample after the boot")
    until(lambda: len(samples(fleet)) > 5, 60, "the samples do not go on")
    deaths = [one["deaths"] for one in samples(fleet) if one["deaths"]]
    assert deaths == [{"signal": 1}, {"signal": 1}], after

    given = {**WATCHED, "acceptance_share_min": 0}
    judged = fleet.run("playbooks/acceptance.yml", "--limit", "h1", **given)
    assert judged.returncode == 2, judged.stdout
    told = json.loads((fleet.bed.state / "reports/acceptance/acceptance.json").read_text())
    rows = {row["name"]: row for row in told["hosts"][0]["rows"]}
    assert (rows["crashes"]["verdict"], rows["crashes"]["figure"]) == ("fail", 2), rows
    assert rows["out_of_memory"]["verdict"] == "pass", rows
    assert rows["latency_p50_s"]["source"] == "requests, by the service's metrics", rows

    setup(fleet, acceptance_state="absent")
    assert "changed=0" in setup(fleet, acceptance_state="absent").stdout
    left = fleet.bed.ssh("h1", f"systemctl cat {TIMER}; ls /usr/local/sbin", check=False).stdout
    assert "modelops-sampler" not in left and "OnUnitActiveSec" not in left
    assert samples(fleet), "what was seen stays"
    fleet.bed.ssh("h1", f"sudo rm -rf {FOLDER}")
