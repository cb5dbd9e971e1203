"""Find our block in a YAML file: by a path of keys, or by its name wherever it stands.

Runs on the controller, with PyYAML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from ..base.errors import ModelOpsError
from .yaml_document import MERGE, Alias, Document, Pair, key_text, target

AUTO = "auto"
VARIABLE = "sarai_config_block"
CLEAR = re.compile(r"[A-Za-z_][\w-]*")  # such keys with dots between them are text to YAML

Path = tuple[str, ...]


class Place(NamedTuple):
    """A mapping of a document, and how one gets there."""

    path: Path
    node: yaml.Node  # a mapping, or an alias of one
    start: int  # of its key, in characters


def parts(block: object) -> Path | None:
    """Return the path of keys that an inventory gives; None for `auto`.

    Args:
        block: `auto`, keys with dots between them, or a list of keys (also as JSON text, as
            `-e` gives it). A number in it is the place in a list, from 0.

    Raises:
        ModelOpsError: it is none of them.
    """
    if block == AUTO:
        return None
    if isinstance(block, str) and block.startswith("["):
        try:
            block = json.loads(block)
        except ValueError:
            block = ""
    found = block.split(".") if isinstance(block, str) else block
    if isinstance(found, Sequence) and found:
        keys = [str(p) for p in found if isinstance(p, str | int) and not isinstance(p, bool)]
        if len(keys) == len(found) and all(keys):
            return tuple(keys)
    raise ModelOpsError(
        f"{VARIABLE} is {block!r}, which is no path of keys",
        remedy=f"Write {VARIABLE}: auto, or a path such as {VARIABLE}: models.audio_omni, or a list"
        f' of keys where one has a dot: {VARIABLE}: ["models", "audio.omni"]',
    )


def spelled(path: Path) -> str:
    """Return a path as an inventory gives it: dotted where that is clear, else as a list."""
    clear = all(CLEAR.fullmatch(part) for part in path) and path != (AUTO,)
    return ".".join(path) if clear else json.dumps(path, ensure_ascii=False)


def find(doc: Document, name: str, key: str, *, without_key: bool = False) -> Path:
    """Return the path of the one block `name` that holds `key`, wherever it stands.

    Args:
        without_key: take a block that does not hold the key too, where no other does.

    Raises:
        ModelOpsError: there is none, or there are several; with every candidate and its line.
    """
    named = [place for place in places(doc) if place.path[-1] == name]
    holding = [place for place in named if holds(place.node, key)]
    if without_key and not holding:
        holding = named
    paths = list(dict.fromkeys(place.path for place in holding))
    if len(paths) == 1:
        return paths[0]
    if paths:
        what = f"there are {len(paths)} blocks {name} that hold {key}"
        raise doc.error(f"{what}: {_listed(doc, holding)}", _choose(paths))
    what = f"there is no block {name} that holds {key}"
    if named:
        what += f" (without it: {_listed(doc, named)})"
    raise doc.error(*not_found(doc, what, [key]))


def not_found(doc: Document, what: str, keys: Iterable[str]) -> tuple[str, str]:
    """Return what is wrong and what to do, with every mapping that could have been meant.

    Args:
        what: what is not there.
        keys: a mapping that holds one of them could have been meant.
    """
    keys = list(keys)
    others = [p for p in places(doc) if any(holds(p.node, key) for key in keys)]
    names = f"one of {', '.join(keys)}" if len(keys) > 1 else "".join(keys)
    if others:
        paths = list(dict.fromkeys(place.path for place in others))
        return f"{what}; blocks that hold {names}: {_listed(doc, others)}", _choose(paths)
    return (
        f"{what}, and no block holds {names}",
        "See that this is the file that the service reads, and how it calls the model's path there:"
        f" sarai_config_file, sarai_config_path_key and {VARIABLE} say so.",
    )


def places(doc: Document) -> Iterator[Place]:
    """Go through every mapping that a path leads to, in the order of the text."""
    waiting: list[tuple[Path, yaml.Node, int]] = [((), doc.root, 0)]
    while waiting:
        path, node, start = waiting.pop()
        if path and isinstance(target(node), yaml.MappingNode):
            yield Place(path, node, start)
        if not isinstance(node, Alias):  # an alias is another way to a place that has its own
            waiting += reversed([((*path, part), *rest) for part, *rest in children(node)])


def below(node: yaml.Node, part: str) -> list[tuple[yaml.Node, int]]:
    """Return the values, with the places of their keys, that a part of a path leads to."""
    return [(value, start) for name, value, start in children(node) if name == part]


def children(node: yaml.Node) -> Iterator[tuple[str, Any, Any]]:
    """Go through what stands in a mapping or list: part of the path, value, place of its key."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield str(index), item, item.start_mark.index
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = target(key)
            # Also `1:` and `on:` are named by their text; `<<` is no key of the mapping.
            if isinstance(name, yaml.ScalarNode) and name.tag != MERGE and name.value:
                yield name.value, value, key.start_mark.index


def holds(node: yaml.Node, key: str) -> bool:
    """Tell whether a mapping has a key, its own or one that it inherits through `<<`."""
    return any(key_text(name) == key for name, _ in (*own(node), *inherited(node)))


def own(node: yaml.Node) -> list[Pair]:
    """Return the pairs that stand in a mapping itself."""
    node = target(node)
    return list(node.value) if isinstance(node, yaml.MappingNode) else []


def inherited(node: yaml.Node) -> Iterator[Pair]:
    """Go through the pairs that a mapping has through `<<`; the first of a key counts."""
    seen: set[int] = set()
    waiting = _bases(node)
    while waiting:
        base = waiting.pop(0)
        if id(base) not in seen:  # an anchor may stand in itself
            seen.add(id(base))
            yield from own(base)
            waiting = _bases(base) + waiting


def _bases(node: yaml.Node) -> list[yaml.Node]:
    bases: list[yaml.Node] = []
    for key, value in own(node):
        if key.tag == MERGE:
            value = target(value)
            listed = value.value if isinstance(value, yaml.SequenceNode) else [value]
            bases += [target(base) for base in listed]
    return bases


def _listed(doc: Document, found: Iterable[Place]) -> str:
    return ", ".join(f"{spelled(p.path)} (line {doc.line(p.start)})" for p in found)


def _choose(paths: Sequence[Path]) -> str:
    lines = "\n".join(f"{VARIABLE}: {spelled(path)}" for path in paths)
    return f"Put the line of the block that the service reads into the inventory:\n{lines}"
