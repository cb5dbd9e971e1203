"""A host in other hands: what its modules answer is forged, and nothing is made of it.

Its Python is a wrapper that runs the real one and rewrites the answer of each module, Ansible's own
among them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Site

WRAPPER = """#!{python}
import json, subprocess, sys
done = subprocess.run([{python!r}, *sys.argv[1:]], stdout=subprocess.PIPE)
text = done.stdout.decode()
try:
    result = json.loads(text)
except ValueError:
    result = None
if isinstance(result, dict) and "invocation" in result:
{forge}
    text = json.dumps(result)
sys.stdout.write(text)
sys.exit(done.returncode)
"""
# A red word, and a text that a terminal shows from right to left.
UNSEEN = "\x1b[31mred\u202egpj"


class Hostile(Site):
    """A site where one host is in other hands."""

    host = ""

    def hand_over(self, host: str, forge: str) -> None:
        """Let a host forge: `forge` is Python that changes `result`."""
        self.host = host
        body = "\n".join(f"    {line}" for line in forge.splitlines())
        self.python.write_text(WRAPPER.format(python=sys.executable, forge=body))
        self.python.chmod(0o755)

    @property
    def python(self) -> Path:
        return self.folder / "python3"

    def given(self) -> dict[str, Any]:
        """Nothing: facts beat an inventory's variables, and none beats those of a command line."""
        return {}

    def inventory(self) -> dict[str, Any]:
        found = super().inventory()
        found["all"]["vars"] |= {"report_dir": str(self.folder / "reports")}
        group = "builder" if self.host == "builder" else "targets"
        own = ("ansible_python_interpreter", "sarai_builder_python", "sarai_python")
        found["all"]["children"][group]["hosts"][self.host] |= dict.fromkeys(own, str(self.python))
        return found


@pytest.fixture
def site(tmp_path, sampled) -> Hostile:
    """A site with the owner's models, and a folder that no run has any business in."""
    site = Hostile(tmp_path / "site")
    shutil.copytree(sampled, site.folder)
    (site.folder / "victim").mkdir()
    (site.folder / "victim" / "precious").write_text("precious")
    return site


def victim(site: Site) -> dict[str, str]:
    return {path.name: path.read_text() for path in (site.folder / "victim").iterdir()}


def test_a_release_id_of_the_builder_is_no_path(site):
    """From reports/ and from .incoming/ it leads to the folder of somebody else."""
    site.hand_over(
        "builder",
        # Of the module that writes the manifest: no other one looks at it on this host again.
        'if "manifest" in result and "files" in result:\n'
        '    result["manifest"]["release_id"] = result["release_id"] = "../victim"\n',
    )
    outcome = site.run("quantize.yml")
    assert outcome.rc != 0
    assert victim(site) == {"precious": "precious"}
    assert "its release id does not follow from its hashes" in " ".join(outcome.output.split())
    assert site.named_model() == "models/onnx/agi_audio_core.onnx"


def test_what_a_target_tells_is_no_fact_and_no_escape(site):
    """Facts beat variables of an inventory: no place, name or verdict may come of them."""
    facts = {
        "report_dir": str(site.folder / "victim"),
        "sarai_home": str(site.folder / "victim"),
        "sarai_models_dir": str(site.folder / "victim"),
        "sarai_service_name": "x\nExecStartPost=+/bin/false",
    }
    site.hand_over(
        "target1",
        f"result['ansible_facts'] = {facts!r}\n"
        f"result['add_host'] = {{'host_name': 'another', 'groups': ['targets']}}\n"
        f"if 'notes' in result:\n    result['notes'].append({UNSEEN!r})\n",
    )
    outcome = site.run("quantize.yml")
    assert outcome.rc == 0, outcome.output
    assert victim(site) == {"precious": "precious"}
    assert site.named_model() == "models/onnx/agi_audio_core_int8.onnx"
    (report,) = site.folder.glob("reports/*/report.md")
    kept = json.loads(report.with_suffix(".json").read_text())
    for text in (outcome.output, report.read_text(), kept["notes"]["target1"]):
        assert "redgpj" in " ".join(text.split())
        assert "\x1b" not in text and "\u202e" not in text


def test_preflight_tells_what_no_unit_can_be_made_of(site):
    site.hand_over("target1", "pass")
    told = site.folder / "told.json"
    outcome = site.run(
        "playbooks/preflight.yml",
        preflight_json=str(told),
        sarai_service_manager="systemd",
        sarai_service_name="x\nExecStartPost=+/bin/false",
    )
    assert outcome.rc == 2, outcome.output
    rows = json.loads(told.read_text())["hosts"]["target1"]
    (row,) = (row for row in rows if row["check"] == "the unit's name")
    assert row["level"] == "problem" and "letters, digits" in row["remedy"]


# In results of Ansible's own modules, too: what a host calls a fact, what Ansible acts upon.
MAGIC = """
result['ansible_facts'] = {{name: {victim!r} for name in {names!r}}} | {{
    'ansible_local': {{name: {victim!r} for name in {names!r}}},
    'discovered_interpreter_python': {program!r},
    'ansible_discovered_interpreter_python': {program!r},
}}
result['ansible_stats'] = {{'data': {{'report_dir': {victim!r}}}, 'per_host': False}}
result['_ansible_delegated_vars'] = {{'ansible_host': '192.0.2.1'}}
result['add_host'] = {{'host_name': 'builder', 'host_vars': {{'report_dir': {victim!r}}}}}
result['add_group'] = 'builder'
"""
NAMES = [
    "report_dir", "playbook_dir", "inventory_dir", "sarai_known_dir", "sarai_builder_dir",
    "ansible_playbook_python", "ansible_python_interpreter", "ansible_connection", "ansible_host",
    "__report", "__report_file", "__sarai_known_file", "hostvars", "groups",
]  # fmt: skip


AFTER_THE_MOVE = """
import os
live = os.path.dirname(__file__) + '/target1/models/onnx/agi_audio_core_int8.onnx'
if 'content' in result and os.path.exists(live):
    """


@pytest.mark.parametrize(
    ("last", "arguments", "words"),
    [
        ("", "--limit builder,target1", "in service"),
        # In the middle of a release. Only a connection says that a host is down.
        (AFTER_THE_MOVE + "result['unreachable'] = True", "", "in service"),
        (AFTER_THE_MOVE + "result['failed'] = True", "", "reverted to fp32"),
    ],
    ids=["goes on", "is down", "fails"],
)
def test_where_a_report_goes_no_target_decides(site, last, arguments, words):
    place = str(site.folder / "victim")
    program = site.folder / "victim" / "program"
    forge = MAGIC.format(victim=place, names=NAMES, program=str(program))
    site.hand_over("target1", f"{forge}\n{last}")
    outcome = site.run("quantize.yml", arguments, sample_enabled=False)
    assert (outcome.rc == 0) == (words == "in service"), outcome.output
    assert victim(site) == {"precious": "precious"}
    (report,) = site.folder.glob("reports/*/report.md")
    assert f"target1: {words}" in report.read_text()
    there = {path.name for path in (site.folder / "reports").iterdir()}
    assert there == {report.parent.name, "known", "index.html"}
