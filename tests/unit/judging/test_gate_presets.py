"""The presets of gates: the variables of roles/sarai by default, or the owner's own thresholds."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from modelops.judging import gates
from modelops.quantizer.recipes import RECIPES

ROLE = Path(__file__).resolve().parents[3] / "roles" / "sarai"


def preset(name: str, part: str, recipe: str = "int8") -> list[dict]:
    values: dict = {}
    for kind in ("defaults", "vars"):
        values |= yaml.safe_load((ROLE / kind / "main.yml").read_text())

    def trusted(value):
        if isinstance(value, dict):
            return {key: trusted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [trusted(item) for item in value]
        return trust_as_template(value) if isinstance(value, str) else value

    templar = Templar(
        DataLoader(), variables={**trusted(values), "sarai_gates": name, "sarai_recipe": recipe}
    )
    return templar.template(trusted(f"{{{{ __sarai_{part}_gates }}}}"))


@pytest.mark.parametrize(("cosine", "verdicts"), [(0.98, ("fail", "pass")), (0.99, ("pass",) * 2)])
def test_the_owner_takes_the_threshold_itself(cosine, verdicts):
    figures = {"cosine_min": cosine, "cosine_mean": cosine, "mse": 0.009, "mae": 0.04}
    figures |= {"float_rows": 5, "discrete_rows": 0}
    found = [
        gates.overall(gates.judge(preset(name, "similarity"), figures))
        for name in ("default", "owner")
    ]
    assert tuple(found) == verdicts


def test_the_owner_wants_a_speedup_of_two():
    figures = {"speedup": 1.5, "rss_ratio": 0.5}
    for name, verdict in (("default", "pass"), ("owner", "fail")):
        assert gates.overall(gates.judge(preset(name, "performance"), figures)) == verdict


def test_the_quantizer_can_keep_either_preset():
    for name in ("default", "owner"):
        kept = gates.kept_quality(preset(name, "similarity"))
        assert kept == {"cosine": 0.98, "mse": 0.01, "mae": 0.05, "agreement": 0.98}


def test_what_is_wanted_of_a_recipe_is_what_it_can_give():
    """FP16 is FP32's own speed, and a session takes more while it makes FP32 of it."""
    figures = {"speedup": 0.95, "rss_ratio": 1.1}
    for recipe, verdict in (("int8", "fail"), ("int4", "fail"), ("fp16", "pass")):
        rows = gates.judge(preset("default", "performance", recipe), figures)
        assert gates.overall(rows) == verdict
        assert not any(row["changed_threshold"] for row in rows)
    slow = {"speedup": 0.7, "rss_ratio": 1.3}
    rows = gates.judge(preset("default", "performance", "fp16"), slow)
    assert {row["verdict"] for row in rows} == {"fail"}


def test_there_are_gates_for_every_recipe():
    known = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__sarai_recipes"]
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]
    choices = specs["main"]["options"]["sarai_recipe"]["choices"]
    assert [*RECIPES] == [*known] == choices
    assert len({frozenset(values) for values in known.values()}) == 1
