"""The formats of a configuration: a block of a YAML file, or a file of variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..base.errors import ModelOpsError
from . import byte_edits, env_edit, yaml_edit, yaml_find
from .values import Found, Value
from .wanted import ENVIRONMENT, Wanted
from .yaml_block import Block
from .yaml_document import Document

Values = Mapping[str, Value]
Owners = dict[str, Found | None]  # the owner's values from before INT8, by key


class Config(Protocol):
    """A configuration file of some format, parsed."""

    name: str  # what holds our keys, for messages

    def read(self, keys: Iterable[str]) -> Owners: ...

    def says(self, key: str) -> tuple[Any, int] | None:
        """Return the value that the service finds, and its line; None where it finds none."""

    def missing(self, keys: list[str]) -> ModelOpsError:
        """Say that keys are not there, and what to do."""

    def plan(self, values: Values) -> list[byte_edits.Edit]: ...


class Environment:
    """The file of variables that a systemd unit reads."""

    name = "the file"

    def __init__(self, content: bytes, wanted: Wanted) -> None:
        self._content, self._where = content, wanted.file
        self._file = env_edit.Environment(content, wanted.file)

    def read(self, keys: Iterable[str]) -> Owners:
        return env_edit.read(self._content, keys, self._where)

    def says(self, key: str) -> tuple[Any, int] | None:
        return self._file.says(key)

    def missing(self, keys: list[str]) -> ModelOpsError:
        there = ", ".join(dict.fromkeys(one.name for one in self._file.all)) or "none"
        return ModelOpsError(
            f"the file sets no {' and no '.join(keys)}; the variables it sets: {there}",
            where=self._where,
            remedy="Name the one that the service reads in sarai_config_path_key, or see that"
            " sarai_config_file is the EnvironmentFile of its unit.",
        )

    def plan(self, values: Values) -> list[byte_edits.Edit]:
        return env_edit.plan(self._content, values, self._where)


class Yaml:
    """A block of a YAML file."""

    def __init__(self, content: bytes, wanted: Wanted) -> None:
        self._content, self._where = content, wanted.file
        self.doc = Document(content, wanted.file)
        self.path = wanted.block or yaml_find.find(
            self.doc, wanted.name, wanted.key, without_key=wanted.key in wanted.add
        )
        self._block = Block(self.doc, self.path, [wanted.key])
        self.name = self._block.name

    def read(self, keys: Iterable[str]) -> Owners:
        return yaml_edit.read(self._content, self.path, keys, self._where)

    def says(self, key: str) -> tuple[Any, int] | None:
        return self._block.says(key)

    def missing(self, keys: list[str]) -> ModelOpsError:
        what = f"{self.name} has no {' and no '.join(keys)}"
        return self.doc.error(*yaml_find.not_found(self.doc, what, keys))

    def plan(self, values: Values) -> list[byte_edits.Edit]:
        return yaml_edit.plan(self._content, self.path, values, self._where)


def read(content: bytes, wanted: Wanted) -> Config:
    """Parse a configuration.

    Raises:
        ModelOpsError: it is malformed, or our keys' place is not in it, or not one.
    """
    byte_edits.require_size(len(content), wanted.file)
    return (Environment if wanted.manager == ENVIRONMENT else Yaml)(content, wanted)
