"""Where the parts of a hand-written YAML file stand: our block, its keys, their tokens.

Positions count characters of the decoded text. Runs on the controller, with PyYAML.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import yaml

from .errors import ModelOpsError

BREAKS = "\r\n\x85\u2028\u2029"  # what YAML 1.1 takes for the end of a line
BREAK = re.compile(f"\r\n|[{BREAKS}]")
LAST_BREAK = re.compile(f"(?:{BREAK.pattern})\\Z")
BLOCK_HEADER = re.compile(r"[|>][-+0-9]*")
STRING = "tag:yaml.org,2002:str"
NULL = "tag:yaml.org,2002:null"

Pair = tuple[yaml.Node, yaml.Node]


class Alias(yaml.Node):
    """An alias as a leaf of its own. PyYAML would put the anchored node, and its place, here."""

    def __init__(self, target: yaml.Node, start: Any, end: Any) -> None:
        super().__init__("alias", None, start, end)
        self.target = target


class _Loader(yaml.SafeLoader):
    """Composes nodes, but keeps aliases as leaves and remembers who is called what."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.names: dict[int, str] = {}  # id of an anchored node or an alias -> anchor
        self.shared: set[int] = set()  # ids of the nodes that an alias stands for

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = cast(Any, self).peek_event()  # the stubs leave it untyped
        node = super().compose_node(parent, index)
        assert node is not None
        if isinstance(event, yaml.AliasEvent):
            self.shared.add(id(node))
            node = Alias(node, event.start_mark, event.end_mark)
        if event.anchor is not None:
            self.names[id(node)] = event.anchor
        return node


class Document:
    """One parsed file: its text, its nodes, and where its tokens end."""

    def __init__(self, content: bytes, where: object) -> None:
        self.where = where
        try:
            self.text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise self.error(
                f"not UTF-8: byte 0x{content[error.start]:02x} in line {line}",
                "Save the file as UTF-8 and run again.",
            ) from None
        try:
            loader = _Loader(self.text)
            root = loader.get_node() if loader.check_node() else None
            several = loader.check_node()
            tokens = list(yaml.scan(self.text, Loader=yaml.SafeLoader))
        except yaml.reader.ReaderError as error:
            place, code = self.place(error.position), ord(self.text[error.position])
            raise self.error(
                f"malformed YAML in {place}: character U+{code:04X} is not allowed",
                "Remove that character and run again.",
            ) from None
        except yaml.MarkedYAMLError as error:
            raise self.malformed(error) from None
        except RecursionError:
            raise self.error(
                "nested too deeply to be read", "Flatten the file and run again."
            ) from None
        except (ValueError, OverflowError) as error:  # an escape beyond Unicode, "\\U00110000"
            raise self.error(
                f"malformed YAML: {error}", "Correct the escapes in quotes and run again."
            ) from None
        if several:
            raise self.error(
                "several YAML documents in one file, separated by ---",
                "Keep one document in this file and run again.",
            )
        if root is None:
            raise self.error("the file is empty", "Put the service's configuration back.")
        self.root = root
        self.names, self.shared = loader.names, loader.shared
        # Marks of block collections and empty values lie behind comments and blank lines; the
        # last token that has characters before a mark is where the written thing really ends.
        self.tokens = [t for t in tokens if t.end_mark.index > t.start_mark.index]
        self.starts = [t for t in tokens if isinstance(t, yaml.BlockMappingStartToken)]
        self.ends = [t.end_mark.index for t in self.tokens]

    def error(self, what: str, remedy: str) -> ModelOpsError:
        return ModelOpsError(what, where=self.where, remedy=remedy)

    def malformed(self, error: yaml.MarkedYAMLError) -> ModelOpsError:
        mark = error.problem_mark or error.context_mark
        place = self.place(mark.index) if mark else "an unknown place"
        problem = error.problem or "not readable"
        if error.context:
            problem = f"{problem} ({error.context})"
        remedy = "Correct that line and run again."
        if mark and self.text[mark.index : mark.index + 1] == "\t":
            remedy = "YAML allows no tab there: replace it by spaces and run again."
        return self.error(f"malformed YAML in {place}: {problem}", remedy)

    def place(self, position: int) -> str:
        start = self.line_start(position)
        line = len(BREAK.findall(self.text, 0, start)) + 1
        return f"line {line}, column {position - start + 1}"

    def line_start(self, position: int) -> int:
        return max(self.text.rfind(c, 0, position) for c in BREAKS) + 1

    def line_end(self, position: int) -> int:
        match = BREAK.search(self.text, position)
        return match.start() if match else len(self.text)

    def line_break(self, position: int) -> str:
        """Return the line ending at or after a position, or the file's first one."""
        match = BREAK.search(self.text, position) or BREAK.search(self.text)
        return match.group() if match else "\n"

    def blank(self, start: int, end: int) -> bool:
        return not self.text[start:end].strip()

    def last_token(self, position: int) -> int:
        """Return the index in `tokens` of the last one that ends at or before a position."""
        return bisect.bisect_right(self.ends, position) - 1

    def token_end(self, index: int) -> int:
        """Return where a token's text ends, without the blank lines below a block scalar."""
        token, end = self.tokens[index], self.ends[index]
        text = self.text[token.start_mark.index : end]
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
            header = BLOCK_HEADER.match(text)
            if header and "+" in header.group():  # here blank lines are part of the value
                text = LAST_BREAK.sub("", text)
            else:
                text = text.rstrip(BREAKS)
        return int(token.start_mark.index) + len(text)

    def end(self, node: yaml.Node) -> int:
        return self.token_end(self.last_token(node.end_mark.index))


class Block:
    """Our mapping in a document, and those of its pairs that are ours."""

    def __init__(self, doc: Document, name: str, keys: Iterable[str]) -> None:
        self.doc, self.name, keys = doc, name, list(keys)
        if not isinstance(doc.root, yaml.MappingNode):
            raise doc.error(
                "the file is not a mapping of keys to values",
                f"It needs a top-level key {name} with {' and '.join(keys)} below it.",
            )
        tops = [pair for pair in doc.root.value if _key_text(pair[0]) == name]
        self._refuse_doubled(name, tops)
        example = "".join(f"\n  {key}: ..." for key in keys)
        if not tops:
            others = ", ".join(_key_name(key) for key, _ in doc.root.value)
            raise doc.error(
                f"there is no top-level key {name}; the keys found are: {others or 'none'}",
                f"Add this to the file and run again:\n{name}:{example}",
            )
        node = tops[0][1]
        place = doc.place(node.start_mark.index)
        if isinstance(node, Alias):
            raise doc.error(
                f"{name} is the alias *{doc.names[id(node)]} ({place}), so that a change would"
                " change the mapping it stands for",
                f"Give {name} a mapping of its own, with `<<: *{doc.names[id(node)]}` in it.",
            )
        empty = isinstance(node, yaml.ScalarNode) and node.tag == NULL
        if empty or (isinstance(node, yaml.MappingNode) and not node.value):
            raise doc.error(
                f"{name} is empty ({place})", f"Write its values below it:\n{name}:{example}"
            )
        if not isinstance(node, yaml.MappingNode):
            kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
            raise doc.error(
                f"{name} is {kind}, not a mapping ({place})", f"Write it as:\n{name}:{example}"
            )
        self.node: yaml.MappingNode = node
        self.pairs: dict[str, Pair] = {}
        for key in keys:
            own = [pair for pair in node.value if _key_text(pair[0]) == key]
            self._refuse_doubled(f"{name}.{key}", own)
            if own:
                self.pairs[key] = own[0]

    def _refuse_doubled(self, what: str, pairs: Sequence[Pair]) -> None:
        if len(pairs) > 1:
            places = "; ".join(self.doc.place(key.start_mark.index) for key, _ in pairs)
            raise self.doc.error(
                f"the key {what} stands there {len(pairs)} times ({places})",
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
        node = self.pairs[key][1]
        node = node.target if isinstance(node, Alias) else node
        name = f"{self.name}.{key} ({self.doc.place(self.pairs[key][1].start_mark.index)})"
        if not isinstance(node, yaml.ScalarNode):
            kind = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
            raise self.doc.error(f"{name} is {kind}, not a single value", "Write a single value.")
        try:
            return yaml.constructor.SafeConstructor().construct_document(node)
        except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError):
            # `!!int` without digits, `!!bool maybe`: PyYAML fails in its own ways
            raise self.doc.error(
                f"{name} has the value {node.value!r} with the type {node.tag}, which a safe YAML"
                " loader cannot read",
                "Write it as a plain or quoted value without a tag.",
            ) from None

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


def _key_text(node: yaml.Node) -> str | None:
    node = node.target if isinstance(node, Alias) else node
    return node.value if isinstance(node, yaml.ScalarNode) and node.tag == STRING else None


def _key_name(node: yaml.Node) -> str:
    node = node.target if isinstance(node, Alias) else node
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "(a complex key)"
