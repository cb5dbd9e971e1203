"""Our block in a YAML file: its keys, their values, and where their tokens stand.

Runs on the controller, with PyYAML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from ..base.errors import ModelOpsError
from . import yaml_find
from .yaml_document import BLOCK_HEADER, NULL, Alias, Document, Pair, key_text, kind, target


class Block:
    """Our mapping in a document, and those of its pairs that are ours."""

    def __init__(self, doc: Document, path: Sequence[str], keys: Iterable[str]) -> None:
        self.doc, self.name, keys = doc, yaml_find.spelled(tuple(path)), list(keys)
        if not isinstance(doc.root, yaml.MappingNode | yaml.SequenceNode):
            raise doc.error(
                "the file is not a mapping of keys to values",
                f"It needs a block {self.name} with {' and '.join(keys)} in it.",
            )
        self.above: list[yaml.Node] = []  # the mappings and lists that the way leads through
        node: yaml.Node = doc.root
        for depth, part in enumerate(path):
            self.above.append(node)
            node = self._step(node, path[: depth + 1], part, keys)
        self.node = self._mapping(node, keys)
        self.pairs: dict[str, Pair] = {}
        for key in keys:
            own = [pair for pair in self.node.value if key_text(pair[0]) == key]
            self._refuse_doubled(f"{self.name}.{key}", [name.start_mark.index for name, _ in own])
            if own:
                self.pairs[key] = own[0]

    def _step(
        self, node: yaml.Node, path: Sequence[str], part: str, keys: Sequence[str]
    ) -> yaml.Node:
        """Go from a mapping or list to what a part of the path names in it."""
        doc, way = self.doc, yaml_find.spelled(tuple(path))
        if isinstance(node, Alias):
            raise self._alias(node, yaml_find.spelled(tuple(path[:-1])))
        found = yaml_find.below(node, part)
        if not found:
            here = ", ".join(name for name, *_ in yaml_find.children(node)) or "none"
            raise doc.error(
                *yaml_find.not_found(doc, f"there is no {way}; the keys there are: {here}", keys)
            )
        self._refuse_doubled(way, [start for _, start in found])
        return found[0][0]

    def _alias(self, node: Alias, way: str) -> ModelOpsError:
        name = self.doc.names[id(node)]
        return self.doc.error(
            f"{way} is the alias *{name} ({self.doc.place(node.start_mark.index)}), so that a"
            " change would change the mapping it stands for",
            f"Give {way} a mapping of its own, with `<<: *{name}` in it.",
        )

    def _mapping(self, node: yaml.Node, keys: Sequence[str]) -> yaml.MappingNode:
        doc, name = self.doc, self.name
        if isinstance(node, Alias):
            raise self._alias(node, name)
        example = f"{name.split('.')[-1]}:" + "".join(f"\n  {key}: ..." for key in keys)
        place = doc.place(node.start_mark.index)
        empty = isinstance(node, yaml.ScalarNode) and node.tag == NULL
        if empty or (isinstance(node, yaml.MappingNode) and not node.value):
            raise doc.error(f"{name} is empty ({place})", f"Write its values below it:\n{example}")
        if not isinstance(node, yaml.MappingNode):
            raise doc.error(
                *yaml_find.not_found(doc, f"{name} is {kind(node)}, not a mapping ({place})", keys)
            )
        return node

    def _refuse_doubled(self, what: str, starts: Sequence[int]) -> None:
        if len(starts) > 1:
            places = "; ".join(map(self.doc.place, starts))
            raise self.doc.error(
                f"the key {what} stands there {len(starts)} times ({places})",
                "Keep one of them and run again.",
            )

    def refuse_shared(self, node: yaml.Node, what: str) -> None:
        """Refuse to change a node that others use through its anchor."""
        if id(node) in self.doc.shared:
            name = self.doc.names[id(node)]
            raise self.doc.error(
                f"{what} carries the anchor &{name} ({self.doc.place(node.start_mark.index)}) and"
                f" *{name} is used elsewhere, so that a change would change that too",
                f"Write the values out where *{name} stands, remove &{name} and run again.",
            )

    def column(self) -> int:
        """Return the column in which a block-style mapping's keys start, "? " included."""
        start = self.node.start_mark.index
        return next(
            int(token.start_mark.column)
            for token in self.doc.starts
            if token.start_mark.index >= start
        )

    def span(self, key: str) -> tuple[int, int]:
        """Return where the value's token starts and ends; an empty value has no characters."""
        value = self.pairs[key][1]
        index = self.doc.last_token(value.end_mark.index)
        token = self.doc.tokens[index]
        own = token.start_mark.index >= value.start_mark.index
        end = self.doc.token_end(index)
        if own and isinstance(token, yaml.ScalarToken | yaml.AliasToken):
            return token.start_mark.index, end
        return end, end

    def token(self, key: str) -> str:
        """Return the value's token as written, without the comment of a block scalar's header."""
        start, end = self.span(key)
        text = self.doc.text[start:end]
        header = BLOCK_HEADER.match(text)
        return header.group() + text[self.doc.line_end(start) - start :] if header else text

    def style(self, key: str) -> str | None:
        value = self.pairs[key][1]
        return value.style if isinstance(value, yaml.ScalarNode) else None

    def value(self, key: str) -> Any:
        """Return the value as a safe loader gives it."""
        return self._scalar(key, self.pairs[key][1])

    def _scalar(self, key: str, value: yaml.Node) -> Any:
        node = target(value)
        name = f"{self.name}.{key} ({self.doc.place(value.start_mark.index)})"
        if not isinstance(node, yaml.ScalarNode):
            raise self.doc.error(
                f"{name} is {kind(node)}, not a single value", "Write a single value."
            )
        try:
            return yaml.constructor.SafeConstructor().construct_document(node)
        except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError):
            # `!!int` without digits, `!!bool maybe`: PyYAML fails in its own ways
            raise self.doc.error(
                f"{name} has the value {node.value!r} with the type {node.tag}, which a safe YAML"
                " loader cannot read",
                "Write it as a plain or quoted value without a tag.",
            ) from None

    def says(self, key: str) -> tuple[Any, int] | None:
        """Return the value that a loader finds for a key, and its line; None where it finds none.

        Unlike `value` this knows what the block inherits through `<<`.
        """
        for name, value in (*self.node.value, *yaml_find.inherited(self.node)):
            if key_text(name) == key:
                return self._scalar(key, value), self.doc.line(name.start_mark.index)
        return None

    def describe(self, key: str) -> dict[str, Any]:
        value = self.value(key)
        if not isinstance(value, str | int | float | type(None)):  # dates and bytes are not JSON
            value = self.token(key)
        return {"value": value, "raw": self.token(key)}

    def others(self, ours: Iterable[str]) -> list[tuple[Any, ...]]:
        """Return every node of the document but our pairs, in order, for comparison."""
        skipped = {id(self.pairs[key]) for key in ours if key in self.pairs}
        rows: list[tuple[Any, ...]] = []
        waiting: list[yaml.Node] = [self.doc.root]
        while waiting:
            node = waiting.pop()
            children: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                kept = [pair for pair in node.value if id(pair) not in skipped]
                children = [child for pair in kept for child in pair]
            elif isinstance(node, yaml.SequenceNode):
                children = node.value
            content = node.value if isinstance(node, yaml.ScalarNode) else len(children)
            rows.append((type(node), node.tag, self.doc.names.get(id(node)), content))
            waiting += reversed(children)
        return rows
