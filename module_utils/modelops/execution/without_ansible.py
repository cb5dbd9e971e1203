"""Runs the modules of library/ where there is no Ansible: on the command line, on Windows."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
LIBRARY, FRAGMENTS = ROOT / "library", ROOT / "doc_fragments"
_PACKAGE = __name__.rsplit(".", 2)[0]
_UNDER_ANSIBLE = "ansible.module_utils.modelops"


def load(name: str) -> ModuleType:
    """Import `library/NAME.py`: its `run`, `MODULE` and `DOCUMENTATION`.

    The modules import this package by the name that it has under Ansible; they get this very one.

    Raises:
        ImportError: there is no such module.
    """
    if not any(isinstance(finder, _SamePackage) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SamePackage())
    for parent in ("ansible", "ansible.module_utils"):
        try:
            importlib.import_module(parent)
        except ImportError:
            sys.modules[parent] = types.ModuleType(parent)
            sys.modules[parent].__path__ = []
    return load_from(LIBRARY, name)


def documented_options(module: ModuleType) -> dict[str, dict[str, Any]]:
    """Return what a module's documentation says of each option, its fragments included.

    As Ansible merges them: what the module says of an option itself comes first.

    Raises:
        ImportError: a fragment is not there, or PyYAML is not.
    """
    import yaml  # not needed where a module only runs

    documentation = yaml.safe_load(module.DOCUMENTATION)
    fragments = documentation.get("extends_documentation_fragment", [])
    options: dict[str, dict[str, Any]] = {}
    for slug in [fragments] if isinstance(fragments, str) else fragments:
        name, _, part = slug.partition(".")
        fragment = load_from(FRAGMENTS, name).ModuleDocFragment
        options |= yaml.safe_load(getattr(fragment, (part or "documentation").upper()))["options"]
    for name, option in documentation["options"].items():
        options[name] = {**options.get(name, {}), **option}
    return options


def load_from(folder: Path, name: str) -> ModuleType:
    """Import `FOLDER/NAME.py`.

    Raises:
        ImportError: it is not there.
    """
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    if spec is None or spec.loader is None or not (folder / f"{name}.py").is_file():
        raise ImportError(f"there is no {name}.py in {folder}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _SamePackage(MetaPathFinder, Loader):
    """Gives the modules of this package under the name that Ansible gives them."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the protocol's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if name == _UNDER_ANSIBLE or name.startswith(f"{_UNDER_ANSIBLE}."):
            return ModuleSpec(name, self)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(_PACKAGE + spec.name.removeprefix(_UNDER_ANSIBLE))
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # It ran when it was imported; only the import system's note of who it is was overwritten.
        assert module.__spec__ is not None
        module.__spec__ = self._specs.pop(module.__spec__.name)
