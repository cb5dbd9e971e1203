"""No line of a unit is made of a value that could be another line, word or specifier."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from hypothesis import example, given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.execution import without_ansible
from modelops.target import units

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
filters = importlib.import_module("filter_plugins.modelops").FilterModule().filters()
ROLE = ROOT / "roles/sarai_service"
ATTACK = "x\nExecStartPost=+/bin/false"
GOOD = {
    "name": "sarai@1.service", "owner": "noel", "memory": "8G", "folder": "/home/noel/modèles",
    "configuration": "/home/noel/config/sarai.yaml",
}  # fmt: skip
# What the role makes of its variables for its templates.
OWN = ("unit", "revert", "revert_program", "revert_command", "revert_model", "revert_writes")


@given(st.text(max_size=40) | st.text("/ab%$;\"'\\ \n\t", max_size=12).map("/".__add__))
@example("/srv\nUser=root")
@example("/srv/models\n")
def test_a_path_is_one_word_that_means_itself(text):
    try:
        said = units.path(text)
    except ModelOpsError:
        return
    assert said == text and text.startswith("/") and text.isprintable()
    assert not set(text) & set(" %$;\"'\\\u00a0")


@given(st.text(max_size=20))
def test_a_name_is_of_letters_digits_and_a_few_signs(text):
    for look in (units.check, units.memory):
        try:
            said = look(text)
        except ModelOpsError:
            continue
        assert said == text and set(text) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@._-%"
        )


@pytest.mark.parametrize("value", ["8G", "50%", "1.5T", "1073741824", "infinity"])
def test_memory_is_as_systemd_reads_it(value):
    assert units.memory(value) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ATTACK), ("name", ""), ("name", "a b"), ("name", "../x"), ("name", "%i"),
        ("owner", "root\nUser=x"), ("owner", "a b"),
        ("memory", "8G\nExecStart=/bin/false"), ("memory", "much"),
        ("folder", "models"), ("folder", ""), ("folder", "/a b"), ("folder", "/a%h"),
        ("folder", "/a\nb"), ("configuration", "/a b"), ("folder", "/a\u202eb"),
    ],
)  # fmt: skip
def test_preflight_tells_of_each(field, value):
    (row,) = units.findings(GOOD | {field: value})
    assert row["level"] == "problem" and row["check"] == f"the unit's {field}"
    assert row["remedy"] and "\n" not in row["value"] and "\u202e" not in row["value"]


def test_preflight_has_nothing_against_good_values():
    for values in (GOOD, GOOD | {"owner": "", "memory": ""}):
        assert [row["level"] for row in units.findings(values)] == ["ok"]
    assert len(units.findings(dict.fromkeys(GOOD, ATTACK))) == len(GOOD)


@pytest.mark.parametrize("manager", ["systemd", "systemd_user"])
def test_the_module_on_the_target_looks_again(manager):
    module = without_ansible.load("service_health")
    params = {"name": "sarai", "manager": manager, "int8": None, "fp32": "/a b/m.onnx"}
    with pytest.raises(ModelOpsError, match="cannot be a path in a unit"):
        module.run(params | {"url": "", "expect": {}, "state": "query"}, False)
    with pytest.raises(ModelOpsError, match="cannot be the name of a unit"):
        module.run(params | {"name": ATTACK, "fp32": "/m.onnx"}, False)


@pytest.mark.parametrize(
    "template", ["memory.conf", "modelops-revert.service", "modelops-revert.timer"]
)
@pytest.mark.parametrize(
    "name", ["sarai_service_name", "sarai_service_owner", "sarai_service_memory_max",
             "sarai_models_dir", "sarai_config_file", "activate_confirm_s"],
)  # fmt: skip
def test_no_template_makes_a_line_of_a_value(template, name):
    """As the role writes it: its own variables, filters and templates."""
    values = {
        "sarai_service_name": "sarai", "sarai_service_owner": "noel", "activate_confirm_s": 60,
        "sarai_service_memory_max": "8G", "sarai_models_dir": "/srv/models",
        "sarai_config_file": "/srv/config/sarai.yaml",
        "sarai_service_manager": "systemd", "ansible_managed": "managed",
        "__sarai_names": {"model": "m"},
    }  # fmt: skip
    environment = jinja2.Environment(autoescape=False)
    environment.filters |= filters | {"dirname": os.path.dirname}
    role = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    source = environment.from_string((ROLE / f"templates/{template}.j2").read_text())

    def written(**changes):
        given = values | changes
        given["__sarai_store"] = f"{given['sarai_models_dir']}/.releases/m"
        for own in OWN:
            text = role[f"__sarai_service_{own}"]
            given[f"__sarai_service_{own}"] = environment.from_string(text).render(given)
        return source.render(given)

    right = written()
    for attack in (ATTACK, f"/srv/{ATTACK}", f"60\n{ATTACK}"):
        try:
            said = written(**{name: attack})
        except AnsibleFilterError as error:
            assert "cannot be" in str(error)
            continue
        assert said.count("\n") == right.count("\n") and "/bin/false" not in said
