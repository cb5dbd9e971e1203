"""Where secrets stand: in a vault of each environment, and in no file that is not encrypted."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from modelops.execution import without_ansible

from plugin_utils.actions import HOW

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ("staging", "production", "single")
MODULES = sorted(path.stem for path in (ROOT / "library").glob("*.py"))
# Such an option holds a secret, or says that it does not.
SECRETIVE = re.compile(r"pass(word|phrase)|secret|token|credential|(^|_)key($|_)")


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_secret_of_an_inventory_has_its_place_in_a_vault(name):
    folders = list((ROOT / "inventory" / name / "group_vars").iterdir())
    assert folders
    for folder in folders:
        used = set(re.findall(r"\bvault_\w+", (folder / "main.yml").read_text("utf-8")))
        listed = folder / "vault.yml.example"
        example = yaml.safe_load(listed.read_text("utf-8")) if listed.is_file() else {}
        assert set(example) == used and set(example.values()) <= {""}


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "local"])
def test_no_secret_stands_beside_its_name(name):
    """A password of a connection comes from a variable of a vault."""
    for path in (ROOT / "inventory" / name).rglob("*.yml"):
        for key, value in re.findall(r"^\s*#?\s*(\w+): *(.*)$", path.read_text("utf-8"), re.M):
            if re.search(r"pass(word|phrase)|secret|token", key):
                assert re.fullmatch(r'"\{\{ vault_\w+ \}\}"', value), f"{path.name}: {key}"


def test_a_vault_in_the_tree_is_encrypted():
    listed = subprocess.run(
        ["git", "ls-files", "*vault*"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    vaults = [ROOT / name for name in listed if not name.endswith(".example")]
    assert len(listed) >= 5
    for path in vaults:
        assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;"), path


@pytest.mark.parametrize("module", MODULES)
def test_every_option_that_sounds_like_a_secret_says_whether_it_is_one(module):
    described = without_ansible.load(module).MODULE["argument_spec"]
    for name, option in described.items():
        if SECRETIVE.search(name) and name not in HOW[module].hidden:
            assert "no_log" in option, f"{module}: {name}"
    assert set(HOW[module].hidden) <= set(described)


def test_no_hosts_own_log_gets_the_arguments_of_modules():
    """Without it Ansible writes each module's options to the journal of the host."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "ansible.cfg", encoding="utf-8")
    assert settings.getboolean("defaults", "no_target_syslog") is True
