"""Lay the project out as an Ansible collection, and let ansible-test judge it: `make collection`.

The tree has its folders where a project has them. ansible-test knows collections alone, so this
copies the tracked files into a folder that is thrown away, with the names that they have there.

    python tests/collection.py                   the tests that SKIPPED does not leave out
    python tests/collection.py validate-modules  those named
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from ansible import release

ROOT = Path(__file__).resolve().parents[1]
NAMESPACE, NAME = "sarai", "modelops"
GET_PIP = "get_pip_24_2.py"  # as the ansible-test of ansible-core 2.19 calls it
CORE = ".".join(release.__version__.split(".")[:2])
# Tests that are left out, and why.
SKIPPED = {
    "import": "it imports every file without onnx and numpy, which a builder needs to quantize",
    "no-assert": "an assert tells mypy a type here, or names a fault of ours; it refuses no input",
    "pylint": "it takes minutes; ruff and mypy judge the code, and print belongs to a command line",
    "pslint": "it needs PowerShell",
}
PLUGINS = f"ansible_collections.{NAMESPACE}.{NAME}.plugins"
AUTHOR = "The SARAi model operations team"
MODULE = re.compile(r"(\bM\(|^  - module: )(?=\w+\b(?!\.))", re.M)
OURS = "|".join(sorted(path.stem for path in (ROOT / "doc_fragments").glob("*.py")))
FRAGMENT = re.compile(rf"((?:: |- )(?=(?:{OURS})\b))")
PLACES = {
    "action_plugins": "plugins/action",
    "callback_plugins": "plugins/callback",
    "doc_fragments": "plugins/doc_fragments",
    "filter_plugins": "plugins/filter",
    "library": "plugins/modules",
    "module_utils": "plugins/module_utils",
    "plugin_utils": "plugins/plugin_utils",
    "playbooks": "playbooks",
    "roles": "roles",
}


def lay_out(folder: Path) -> Path:
    """Make the collection below a folder, and return its own."""
    dest = folder / "ansible_collections" / NAMESPACE / NAME
    listed = subprocess.run(
        ["git", "ls-files", "-z", *PLACES, "README.md", "LICENSE", "CHANGELOG.md"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        place, _, rest = name.partition("/")
        to = dest / PLACES[place] / rest if rest else dest / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to)
        if to.suffix == ".py":
            to.write_text(renamed(to.read_text(encoding="utf-8")), encoding="utf-8")
    (dest / "galaxy.yml").write_text(yaml.safe_dump(galaxy()), encoding="utf-8")
    (dest / "meta").mkdir()
    (dest / "meta/runtime.yml").write_text("---\nrequires_ansible: '>=2.19'\n", encoding="utf-8")
    (dest / "tests/sanity").mkdir(parents=True)
    (dest / f"tests/sanity/ignore-{CORE}.txt").write_text(ignored(), encoding="utf-8")
    return dest


def renamed(text: str) -> str:
    """Return a module or plugin with the names that a collection has."""
    text = re.sub(r"\bansible\.module_utils\.modelops\b", f"{PLUGINS}.module_utils.modelops", text)
    text = re.sub(r"^from modelops\b", f"from {PLUGINS}.module_utils.modelops", text, flags=re.M)
    text = re.sub(r"^from plugin_utils\b", f"from {PLUGINS}.plugin_utils", text, flags=re.M)
    extends = re.compile(r"^extends_documentation_fragment:(?: .*\n|\n(?: +- .*\n)+)", re.M)
    text = extends.sub(lambda found: FRAGMENT.sub(rf"\1{NAMESPACE}.{NAME}.", found[0]), text)
    text = MODULE.sub(rf"\1{NAMESPACE}.{NAME}.", text)
    # An author has a name on GitHub there: that of the namespace.
    return text.replace(f"  - {AUTHOR}\n", f"  - {AUTHOR} (@{NAMESPACE})\n")


def ignored() -> str:
    """Return the ignore file. What has options has the MIT license; ansible-test wants the GPL."""
    places = ("callback_plugins", "library")
    files = (path for place in places for path in sorted((ROOT / place).glob("*.py")))
    why = "validate-modules:missing-gplv3-license # MIT, see LICENSE"
    return "".join(f"{PLACES[path.parent.name]}/{path.name} {why}\n" for path in files)


def galaxy() -> dict[str, object]:
    """Return what galaxy.yml says."""
    return {
        "namespace": NAMESPACE,
        "name": NAME,
        "version": "0.1.0",
        "readme": "README.md",
        "authors": [AUTHOR],
        "license": ["MIT"],
    }


def home() -> Path:
    """Return a home for ansible-test, which keeps there what pip installs for its tests.

    It begins with a script that it would load from a host of its own to install pip: Python brings
    one. It drops the variables of the environment that tell pip of a proxy or an index: a file
    tells it here.
    """
    folder = ROOT / ".venv" / "ansible-test"
    cache = folder / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / GET_PIP).write_text("import ensurepip\n\nensurepip.bootstrap()\n", encoding="utf-8")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    settings = dict(re.findall(r"^\S*\.(\S+)='(.*)'$", listed, re.M))
    lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items())]
    config = folder / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def main() -> int:
    """Run the tests of `ansible-test sanity`, or those named, where the collection is laid out."""
    test = Path(sys.executable).with_name("ansible-test")
    version = "{}.{}".format(*sys.version_info)
    which = [part for name in sys.argv[1:] for part in ("--test", name)]
    which = which or [part for name in SKIPPED for part in ("--skip-test", name)]
    # Not below the project: ansible-test leaves out what its repository ignores.
    with tempfile.TemporaryDirectory(prefix="collection-") as folder:
        done = subprocess.run(
            [test, "sanity", "--python", version, *which],
            cwd=lay_out(Path(folder)), env={**os.environ, "HOME": str(home())}, check=False,
        )  # fmt: skip
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
