"""The words of the terminal's output, and which phase a task is of."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelops.reporting import screen

ROLES = Path(__file__).resolve().parents[3] / "roles"
# Roles that work within the phases of others.
WITHIN = {"notify", "run_lock", "sarai", "sarai_config", "sarai_service"}
NO_COUNTS = dict.fromkeys(("changed", "failures", "unreachable", "rescued", "ignored"), 0)


def test_every_role_is_a_phase_or_works_within_others():
    roles = {name for name in screen.PHASES if "/" not in name}
    assert not roles & WITHIN
    assert roles | WITHIN == {path.name for path in ROLES.iterdir()}, (
        "a new role: name its phase in reporting/screen.PHASES, or say here that it has none"
    )
    for role, _, file in (name.partition("/") for name in screen.PHASES):
        assert (ROLES / role / "tasks" / f"{file or 'main'}.yml").is_file()


def test_every_word_is_there_in_spanish():
    whens = [name for names in screen.WHEN.values() for name in names]
    phases = set(screen.PHASES.values())
    assert len(whens) == len(set(whens)) and set(whens) <= phases
    assert phases | set(screen.WHEN) <= set(screen.SPANISH)
    assert screen.words("es") is screen.SPANISH and screen.words("en") == {}


@pytest.mark.parametrize(
    ("role", "file", "phase"),
    [
        ("quantize", "main", "quantize"),
        ("quantize", "gate", "gate"),
        ("activate", "revert", "revert"),
        ("sign", "main", "sign"),
        ("run_lock", "main", ""),
        ("of_somebody_else", "main", ""),
    ],
)
def test_the_phase_of_a_file_of_a_role(role, file, phase):
    assert screen.phase(role, file) == phase


def words_of(line: str) -> str:
    return " ".join(line.split())


def test_a_phase_counts_each_host_once():
    phase = screen.Phase("validate", 10.0, 13.25, {"a", "b"}, {"a"}, {"b"})
    assert words_of(phase.line(7, {}, False)) == (
        "after ✗ 7 validate 2 hosts, 1 changed, 1 failed 3.25 s"
    )
    assert words_of(phase.line(7, screen.SPANISH, True)) == (
        "después ✗ 7 validación 2 equipos, 1 cambiarían, 1 con fallos 3.25 s"
    )
    alone = screen.Phase("status", 1.0, 1.5, {"a"})
    assert words_of(alone.line(1, {}, False)) == "✓ 1 status 1 host 500 ms"


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({}, "✓ done in 2 s: 1 host, 0 changed, 0 failed, 0 unreachable"),
        (
            {"changed": 3, "rescued": 2, "ignored": 1},
            "✓ done in 2 s: 1 host, 1 changed, 0 failed, 0 unreachable, 1 rescued, 1 ignored",
        ),
        ({"failures": 2}, "✗ stopped after 2 s: 1 host, 0 changed, 1 failed, 0 unreachable"),
        ({"unreachable": 1}, "✗ stopped after 2 s: 1 host, 0 changed, 0 failed, 1 unreachable"),
    ],
)
def test_the_last_line(counts, line):
    assert screen.end({"a": NO_COUNTS | counts}, 2, {}, False) == line


def test_what_others_named_acts_on_no_terminal():
    line = screen.note("change", "a\x1b[2J", "b\nc", {}, "\x1b]0;title\x07d")
    assert line.strip() == "change: a: b c (d)"
    assert screen.told("\x1b[31mone\nline\n") == "\none\nline\n\n" and screen.told("one\n") == "one"
