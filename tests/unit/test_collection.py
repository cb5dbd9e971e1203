"""The project as a collection: nothing in it has a name that only the project knows."""

from __future__ import annotations

import re

import collection
import pytest

# What a file would be imported by, or be named in documentation, outside of a collection.
OWN_NAMES = re.compile(
    r"^(?:from|import) (?:modelops|plugin_utils|ansible\.module_utils\.modelops)"
    r"|\bM\(\w+\)|^  - module: \w+$|^extends_documentation_fragment: \w+$",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    return collection.lay_out(tmp_path_factory.mktemp("collection"))


def test_every_module_and_plugin_is_there(laid_out):
    for folder, place in collection.PLACES.items():
        wanted = {path.name for path in (collection.ROOT / folder).glob("*.py")}
        assert wanted <= {path.name for path in (laid_out / place).glob("*.py")}, folder


def test_no_name_is_the_projects_own(laid_out):
    files = sorted((laid_out / "plugins").rglob("*.py"))
    found = {path.name: OWN_NAMES.findall(path.read_text(encoding="utf-8")) for path in files}
    assert files and not {name: names for name, names in found.items() if names}


def test_what_is_ignored_is_the_license_alone():
    for line in collection.ignored().splitlines():
        assert " validate-modules:missing-gplv3-license # MIT" in line
