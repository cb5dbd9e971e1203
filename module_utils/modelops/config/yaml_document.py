"""A hand-written YAML file as text, nodes and tokens, each with its place.

Positions count characters of the decoded text. Runs on the controller, with PyYAML.
"""

from __future__ import annotations

import bisect
import re
from typing import Any, cast

import yaml

from ..base.errors import ModelOpsError
from .byte_edits import BREAKS, require_size

BREAK = re.compile(f"\r\n|[{BREAKS}]")
LAST_BREAK = re.compile(f"(?:{BREAK.pattern})\\Z")
BLOCK_HEADER = re.compile(r"[|>][-+0-9]*")
STRING = "tag:yaml.org,2002:str"
NULL = "tag:yaml.org,2002:null"
MERGE = "tag:yaml.org,2002:merge"

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
        require_size(len(content), where)
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
        column = position - self.line_start(position) + 1
        return f"line {self.line(position)}, column {column}"

    def line(self, position: int) -> int:
        """Return the number of the line that a position is in, from 1."""
        return len(BREAK.findall(self.text, 0, self.line_start(position))) + 1

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


def target(node: yaml.Node) -> yaml.Node:
    """Return the node that an alias stands for; any other node as it is."""
    return node.target if isinstance(node, Alias) else node


def key_text(node: yaml.Node) -> str | None:
    """Return the text of a key that is a string; None for a number, a date or a complex key."""
    node = target(node)
    return node.value if isinstance(node, yaml.ScalarNode) and node.tag == STRING else None


def kind(node: yaml.Node) -> str:
    """Say in a word what a node is."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
