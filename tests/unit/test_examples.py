"""A developer waits for few examples; the gate tries all of them."""

from __future__ import annotations

import re
from pathlib import Path

import examples
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("environment", "profile"),
    [({}, "dev"), ({"CI": "true"}, "ci"), ({"CI": "true", "HYPOTHESIS_PROFILE": "dev"}, "dev")],
)
def test_the_gate_tries_all_of_them(monkeypatch, environment, profile):
    for name in ("CI", "HYPOTHESIS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert examples.profile() == profile


def test_what_runs_the_gate_says_so():
    assert "export CI=true" in (ROOT / ".ci/run").read_text()
    assert 'CI: "true"' in (ROOT / ".github/workflows/ci.yml").read_text()


@pytest.mark.parametrize(
    ("profile", "of_400", "of_15", "of_abc"), [("ci", 400, 15, "abc"), ("dev", 40, 5, "a")]
)
def test_a_profile_leaves_its_part_of_a_tests_own_number(profile, of_400, of_15, of_abc):
    before = settings.get_current_profile_name()
    settings.load_profile(profile)
    try:
        assert (examples.examples(400), examples.examples(15)) == (of_400, of_15)
        assert "".join(examples.some("abc", 1)) == of_abc
        assert settings.default.deadline is None
    finally:
        settings.load_profile(before)


def test_no_test_has_a_number_that_no_profile_can_lower():
    for path in (ROOT / "tests" / "unit").rglob("test_*.py"):
        assert not re.search(r"max_examples=\d", path.read_text(encoding="utf-8")), path
