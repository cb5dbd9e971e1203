"""One declaration for all action plugins, and a file for each, since Ansible looks for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelops.execution import without_ansible

from plugin_utils.actions import HOW

ROOT = Path(__file__).resolve().parents[3]
MODULES = {path.stem for path in (ROOT / "library").glob("*.py")}
WITH_STEPS_OF_THEIR_OWN = {"artifact_push", "host_lock"}


def test_every_module_is_declared_and_has_its_file():
    assert set(HOW) == MODULES == {path.stem for path in (ROOT / "action_plugins").glob("*.py")}


def test_the_files_of_all_others_are_the_same():
    names = MODULES - WITH_STEPS_OF_THEIR_OWN
    texts = {(ROOT / "action_plugins" / f"{name}.py").read_text("utf-8") for name in names}
    assert len(names) > 10 and len(texts) == 1
    assert texts.pop().count("\n") < 12


@pytest.mark.parametrize("module", sorted(HOW))
def test_a_file_that_is_shown_is_an_option_of_a_module_that_tells_how_far_it_is(module):
    spec = without_ansible.load(module).MODULE["argument_spec"]
    if HOW[module].shown:
        assert spec[HOW[module].shown]["type"] == "path" and "progress_file" in spec
        assert HOW[module].background and not HOW[module].posix_only
