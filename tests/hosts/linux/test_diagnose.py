"""A host is broken, the diagnosis says how, and mends it."""

from __future__ import annotations

import json
from typing import Any

from fleet import ADOPT, HOME, ONE, Fleet, until


def diagnose(fleet: Fleet, **variables: Any) -> tuple[int, dict[str, str], str]:
    """Diagnose h1; return the exit code, the rows that are not right by id, and the output."""
    path = fleet.bed.state / "diagnosis.json"
    done = fleet.run(
        "playbooks/diagnose.yml", "--limit", "h1", diagnose_json=str(path), **variables
    )
    rows = json.loads(path.read_text())["hosts"]["h1"]
    wrong = {row["id"]: row["level"] for row in rows if row["level"] != "ok" and row["id"]}
    return done.returncode, wrong, done.stdout


def test_a_service_that_died_and_one_that_serves_another_model(fleet):
    done = fleet.run("quantize.yml", *ONE, **ADOPT)
    assert done.returncode == 0, done.stdout
    fleet.bed.ssh("h1", "sudo systemctl kill --signal=KILL sarai")
    until(lambda: fleet.served("h1") == "int8", 30, "systemd did not start it again")
    fleet.bed.put("h1", "ignore", f"{HOME}/fault")
    fleet.bed.ssh("h1", "sudo systemctl restart sarai")
    until(lambda: fleet.served("h1") == "fp32", 30, "the stand-in serves what it is told")

    code, wrong, said = diagnose(fleet)
    assert (code, wrong["served"], wrong["failures"]) == (2, "problem", "advice"), said
    assert "its processes have FP32" in " ".join(said.split()), said
    assert fleet.served("h1") == "fp32", "a diagnosis changes nothing"

    fleet.bed.ssh("h1", f"rm {HOME}/fault")
    code, wrong, said = diagnose(fleet, diagnose_fix=True)
    assert code == 0 and "served" not in wrong, said
    assert fleet.served("h1") == "int8"

    fleet.bed.ssh("h1", "sudo systemctl stop sarai")
    code, wrong, said = diagnose(fleet)
    assert (code, wrong["down"]) == (2, "problem"), said
    code, wrong, said = diagnose(fleet, diagnose_fix=True)
    assert code == 0 and "down" not in wrong, said
    assert fleet.served("h1") == "int8"
