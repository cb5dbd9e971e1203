"""What an inventory says about the configuration, checked, and which model a value names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..base.errors import ModelOpsError
from . import env_edit, yaml_find
from .values import Value, plain

VARIABLE = re.compile(r"^~|[${]")  # what a loader may replace before it opens a file
YAML, ENVIRONMENT = MANAGERS = ("yaml", "environment_file")
FP32, INT8, OTHER, UNKNOWN = "fp32", "int8", "other", "unknown"


@dataclass(frozen=True)
class Wanted:
    """What the inventory says about the configuration; see roles/sarai/defaults/main.yml."""

    file: str
    home: str
    manager: str
    block: yaml_find.Path | None  # None: found by `name`
    name: str
    key: str  # the one that names the model
    fp32: dict[str, Any]
    int8: dict[str, Any]
    requires: dict[str, Any]
    add: tuple[str, ...]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Wanted:
        """Check what an inventory gives.

        Raises:
            ModelOpsError: it contradicts itself.
        """
        where, key = given["file"], str(given["path_key"])

        def values(found: Mapping[str, Value]) -> dict[str, Any]:
            scalars = plain(found, where)
            if given["manager"] != ENVIRONMENT:
                return scalars
            return {name: env_edit.text(value) for name, value in scalars.items()}

        made = cls(
            file=str(where),
            home=str(given["home"]),
            manager=str(given["manager"]),
            block=yaml_find.parts(given["block"]),
            name=str(given["block_name"]),
            key=key,
            fp32=values(given["fp32"]),
            int8=values(given["int8"]),
            requires=plain(given["requires"], where),
            add=tuple(str(key) for key in given["add"]),
        )
        if made.manager not in MANAGERS:
            raise ModelOpsError(
                f"sarai_config_manager is {made.manager!r}",
                where=where,
                remedy=f"Write one of: {', '.join(MANAGERS)}.",
            )
        for variable in ("fp32", "int8"):
            if not isinstance(getattr(made, variable).get(key), str):
                raise ModelOpsError(
                    f"sarai_config_{variable} has no text {key}, the key that names the model",
                    where=where,
                    remedy=f"Give it there, or correct sarai_config_path_key ({key}).",
                )
        if made.meaning(made.fp32[key]) == made.meaning(made.int8[key]):
            raise ModelOpsError(
                f"sarai_config_fp32 and sarai_config_int8 both name {made.int8[key]}",
                where=where,
                remedy="Name the FP32 model in sarai_config_fp32.",
            )
        return made

    def meaning(self, path: str) -> str:
        """Return the one spelling of a path: absolute, from the service's folder."""
        return posixpath.normpath(posixpath.join(self.home, path))

    def names(self, value: object) -> str:
        """Tell which model a value names: FP32, INT8, OTHER, or UNKNOWN.

        A path with a variable in it is known only where its last part tells that it is not INT8.
        """
        if not isinstance(value, str):
            return OTHER
        for kind, path in ((FP32, self.fp32[self.key]), (INT8, self.int8[self.key])):
            if value == path or self.meaning(value) == self.meaning(path):
                return kind
        last = posixpath.basename(value)
        if not VARIABLE.search(value):
            return OTHER
        told = not VARIABLE.search(last) and last != posixpath.basename(self.int8[self.key])
        return OTHER if told else UNKNOWN
