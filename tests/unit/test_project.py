"""What the tree promises of itself: specs, documentation, pins and inventories agree."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from modelops.execution import options, without_ansible
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
MODULES = sorted(path.stem for path in (ROOT / "library").glob("*.py"))


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_are_the_defaults(role):
    specs = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"].get("options", {})
    path = ROOT / "roles" / role / "defaults/main.yml"
    defaults = yaml.safe_load(path.read_text()) if path.exists() else {}
    assert {name: option["default"] for name, option in options.items()} == defaults
    assert all(option["description"] and option["type"] for option in options.values())
    assert all(name.startswith(f"{role}_") for name in defaults)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_knows_no_groups_of_the_inventory(role):
    """Who builds and who serves is told by sarai_builder and sarai_targets (playbooks/vars)."""
    for path in (ROOT / "roles" / role).rglob("*.*"):
        text = path.read_text()
        assert not re.search(r"\bgroups\s*[.\[]|\bgroup_names\b", text), path


@pytest.mark.parametrize("module", MODULES)
def test_documentation_is_the_argument_spec(module):
    found = without_ansible.load(module)
    documented = without_ansible.documented_options(found)
    spec = found.MODULE["argument_spec"]
    assert set(documented) == set(spec)
    for name, option in documented.items():
        assert option["description"], name
        for key in ("type", "default", "choices", "elements", "required"):
            assert option.get(key) == spec[name].get(key), (name, key)
    assert yaml.safe_load(found.EXAMPLES)
    assert yaml.safe_load(found.RETURN)


def test_ansible_doc_reads_the_modules_and_their_fragments_as_the_command_line_does():
    done = tool("ansible-doc", "-t", "module", "-M", "library", "--json", *MODULES)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert sorted(read) == MODULES
    for name in MODULES:
        options = without_ansible.documented_options(without_ansible.load(name))
        assert read[name]["doc"]["options"] == options, name


def test_fragments_are_the_shared_options():
    documented = {}
    for path in (ROOT / "doc_fragments").glob("*.py"):
        fragment = vars(without_ansible.load_from(path.parent, path.stem).ModuleDocFragment)
        for part, text in fragment.items():
            if part.isupper():
                name = path.stem.upper() if part == "DOCUMENTATION" else part
                documented[name] = yaml.safe_load(text)["options"]
    for option in (option for part in documented.values() for option in part.values()):
        assert option.pop("description")
    assert documented == {name: part for name, part in vars(options).items() if name.isupper()}


@pytest.mark.parametrize("name", ["local", "single", "staging", "production"])
def test_inventories(name):
    done = tool("ansible-inventory", "-i", f"inventory/{name}", "--list")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert len(listed["builder"]["hosts"]) == 1
    assert listed["targets"]["hosts"]


def test_the_default_inventory_is_this_machine():
    done = tool("ansible-inventory", "--list")
    hosts = json.loads(done.stdout)["_meta"]["hostvars"]
    assert {host["ansible_connection"] for host in hosts.values()} == {"local"}


def test_collections_fit_the_ranges_for_galaxy():
    listed = tool("ansible-galaxy", "collection", "list", "--format", "json")
    installed = {}
    for folder in json.loads(listed.stdout).values():
        installed |= {name: found["version"] for name, found in folder.items()}
    for wanted in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]:
        assert installed[wanted["name"]] in SpecifierSet(wanted["version"].replace(" ", ""))


def test_everything_pinned_is_installed_and_has_hashes():
    """The versions that this Python runs with are those of requirements/dev.txt."""
    from packaging.requirements import Requirement

    text = (ROOT / "requirements/dev.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) > 40
    for line in lines:
        assert line.count("--hash=sha256:") >= 1, line
        wanted = Requirement(line.split(" --hash")[0])
        if wanted.marker is None or wanted.marker.evaluate():
            assert importlib.metadata.version(wanted.name) in wanted.specifier


def test_no_address_of_a_package_index_in_the_tree():
    for path in (ROOT / "requirements").iterdir():
        assert "://" not in path.read_text(), path
