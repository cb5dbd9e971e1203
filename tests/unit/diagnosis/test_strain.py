"""What strains a service: told by fields and numbers, never by words."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from modelops.base.errors import ModelOpsError
from modelops.diagnosis import strain
from modelops.target import processes, units


def journal(monkeypatch, *entries: object, code: int = 0) -> list[tuple[str, ...]]:
    """Let journalctl print these entries; return the commands that asked."""
    asked: list[tuple[str, ...]] = []

    def run(*command: str, **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
        return subprocess.CompletedProcess(command, code, "\n".join(lines), "")

    monkeypatch.setattr(units, "run", run)
    return asked


def levels(rows) -> dict[str, str]:
    return {row["id"]: row["level"] for row in rows}


def test_deaths_are_counted_by_systemds_result(monkeypatch):
    asked = journal(
        monkeypatch, {"UNIT_RESULT": "oom-kill"}, {"UNIT_RESULT": "signal"}, "no JSON", [1],
        {"UNIT_RESULT": "oom-kill"}, {"UNIT_RESULT": "x" * 500},
    )  # fmt: skip
    assert strain.deaths("sarai", 7) == {"oom-kill": 2, "signal": 1, "x" * 40: 1}
    assert {"UNIT=sarai.service", strain.FAILURE, "--since=-7d"} <= set(asked[0])
    strain.deaths("sarai", 7, user=True)
    assert "USER_UNIT=sarai.service" in asked[1]


def test_the_name_of_a_unit_is_no_option_and_no_other_field(monkeypatch):
    asked = journal(monkeypatch)
    for name in ("--file=/etc/passwd", "a b", "x\nUNIT=y", ""):
        with pytest.raises(ModelOpsError):
            strain.deaths(name, 7)
    assert not asked


def test_a_kill_for_want_of_memory_is_a_problem_and_another_death_advice(monkeypatch):
    journal(monkeypatch, {"UNIT_RESULT": "oom-kill"}, {"UNIT_RESULT": "exit-code"})
    rows = strain.look("sarai", "systemd", [], 7)
    assert levels(rows)["oom"] == "problem" and levels(rows)["failures"] == "advice"
    journal(monkeypatch)
    rows = strain.look("sarai", "systemd", [], 7)
    assert levels(rows)["oom"] == levels(rows)["failures"] == "ok"
    assert "oom" not in levels(strain.look("sarai", "command", [], 7))


def test_a_journal_that_this_user_may_not_read_is_no_good_news(monkeypatch):
    journal(monkeypatch, code=1)
    rows = strain.look("sarai", "systemd", [], 7)
    assert levels(rows)["failures"] == "advice" and "oom" not in levels(rows)
    assert next(row["value"] for row in rows if row["id"] == "failures") == "not readable"


def test_swap_is_that_of_the_services_own_processes(monkeypatch, tmp_path):
    for pid, kilobytes in (("10", 60 << 10), ("11", 5 << 10), ("12", 10**9)):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "status").write_text(f"Name:\tx\nVmSwap:\t{kilobytes} kB\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert strain.swapped([10, 11, 99]) == 65 << 20
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert levels(strain.look("sarai", "none", [10, 11], 7))["swap"] == "advice"
    assert levels(strain.look("sarai", "none", [10], 7))["swap"] == "ok"


def test_the_load_of_more_than_the_processors_is_told(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    for load, level in ((2.0, "ok"), (2.1, "advice")):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (9.0, load, 9.0))
        assert levels(strain.look("sarai", "none", [], 7))["load"] == level


@pytest.mark.parametrize(
    ("governor", "driver", "level"),
    [("powersave", "acpi-cpufreq", "advice"), ("powersave", "intel_pstate", "ok"),
     ("performance", "acpi-cpufreq", "ok")],
)  # fmt: skip
def test_a_processor_that_stays_slow(monkeypatch, tmp_path, governor, driver, level):
    folder = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text(f"{governor}\n")
    (folder / "scaling_driver").write_text(f"{driver}\n")
    monkeypatch.setattr(strain, "SYSTEM", tmp_path)
    assert levels(strain.look("sarai", "none", [], 7))["governor"] == level


def test_a_machine_without_frequencies_has_no_row(monkeypatch, tmp_path):
    monkeypatch.setattr(strain, "SYSTEM", tmp_path)
    assert "governor" not in levels(strain.look("sarai", "none", [], 7))
