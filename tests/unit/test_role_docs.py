"""What the tree tells of its roles: README.md and meta/main.yml."""

from __future__ import annotations

import pytest
import role_docs
import yaml
from role_docs import ROLES, ROOT


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_is_made_from_the_specs(role):
    path = ROOT / "roles" / role / "README.md"
    assert path.read_text("utf-8") == role_docs.render(role), "run: make role-docs"


def test_the_list_of_variables_is_made_from_the_specs():
    path = ROOT / "docs/variables.md"
    assert path.read_text("utf-8") == role_docs.variables(), "run: make role-docs"


@pytest.mark.parametrize("role", ROLES)
def test_the_meta_is_complete(role):
    meta = ROOT / "roles" / role / "meta"
    about = yaml.safe_load((meta / "main.yml").read_text("utf-8"))
    info = about["galaxy_info"]
    assert info["author"]
    assert info["license"] == "MIT"
    assert info["min_ansible_version"] == "2.19"
    assert info["platforms"]
    assert {one["role"] for one in about["dependencies"]} <= set(ROLES)
    specs = yaml.safe_load((meta / "argument_specs.yml").read_text("utf-8"))
    assert info["description"] == specs["argument_specs"]["main"]["short_description"]


def test_a_cell_of_the_table_keeps_its_bars_and_choices():
    option = {
        "description": "This | or that.",
        "type": "list",
        "elements": "str",
        "choices": ["a", "b"],
        "default": ["a"],
    }
    row = role_docs._table({"x_y": option}).splitlines()[-1]
    assert row == r'| `x_y` | list of str | `["a"]` | This \| or that. One of: a, b. |'
