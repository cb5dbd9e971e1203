"""The filters of the roles: every one that is used is there, and refuses as Ansible wants it."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins.modelops import FILTERS, FilterModule

ROOT = Path(__file__).resolve().parents[3]


def test_every_filter_is_used_and_no_other_way_round():
    paths = [*(ROOT / "roles").rglob("*.*"), *(ROOT / "playbooks").rglob("*.yml")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    used = {name for name in FILTERS if re.search(rf"\|\s*{name}\b", text)}
    assert used == set(FILTERS)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("model_names", ["../a"]),
        ("unit_name", ["a b.service"]),
        ("unit_path", ["/a\nb"]),
        ("wheels", ["/nowhere", "a==1 --hash=sha256:" + "0" * 64, {"a": "2"}]),
    ],
)
def test_what_is_refused_is_refused_as_a_filter_does(name, values):
    with pytest.raises(AnsibleFilterError) as refused:
        FilterModule().filters()[name](*values)
    assert str(refused.value).strip()


def test_a_unit_is_called_without_its_kind():
    assert FilterModule().filters()["unit_name"]("sarai.service") == "sarai"


def test_a_configuration_is_planned_from_what_ansible_read():
    wanted = {
        "file": "/s/config/sarai.yaml",
        "home": "/s",
        "manager": "yaml",
        "block": "auto",
        "block_name": "audio_omni",
        "path_key": "model_path",
        "fp32": {"model_path": "a.onnx"},
        "int8": {"model_path": "a_int8.onnx"},
        "add": [],
        "requires": {},
    }
    filters = FilterModule().filters()
    text = filters["config_text"](wanted, {"n_threads": 4})
    assert "model_path: a.onnx" in text and "n_threads: 4" in text
    read = {"content": base64.b64encode(text.encode()).decode()}
    planned = filters["config_plan"](read, wanted, None, "forward")
    assert len(planned["config"]["int8"]) == 1 and planned["config"]["fp32"] == []
    assert {row["level"] for row in filters["config_findings"](read, wanted)} == {"ok"}
