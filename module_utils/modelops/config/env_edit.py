"""Change assignments of a systemd EnvironmentFile, and not one byte besides.

The syntax is that of systemd's parse_env_file (src/basic/env-file.c, systemd.exec(5)): lines that
begin with # or ; are comments, quotes may stand around a value or its parts, a backslash goes on
in the next line, and the last assignment of a name counts. Every plan is proven: the edits are
made, the result is parsed again, and it has the same assignments but for ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..base.errors import ModelOpsError
from . import byte_edits
from .byte_edits import Change
from .values import ABSENT, Found, Value, plain

BLANK, NEWLINE, COMMENT = " \t\r\n", "\r\n", "#;"
ESCAPED = '"\\`$'  # what a backslash quotes between double quotes
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLAIN = re.compile(r"[^\s\"'\\$`;#&|<>()*?~!\[\]{}]*")  # also to a shell that reads the file


class Assignment(NamedTuple):
    """One assignment: `text[start:end]` is its token, `name` begins at `key`."""

    name: str
    value: str
    key: int
    start: int
    end: int
    open: bool  # a quote in it is not closed, and takes the rest of the file with it


class Environment:
    """A parsed file.

    Raises:
        ModelOpsError: it is not UTF-8, or systemd's versions read it in different ways.
    """

    def __init__(self, content: bytes, where: object) -> None:
        self.where = where
        try:
            self.text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise self.error(f"not UTF-8: line {line}", "Save the file as UTF-8.") from None
        if "\0" in self.text or self.text.startswith("\ufeff"):
            raise self.error(
                "a zero byte or a byte order mark is in it, which systemd does not read",
                "Save the file as plain UTF-8 text.",
            )
        self.all = _assignments(self.text, goes_on=False)
        # Before version 254 a comment went on behind a backslash at its end.
        if self.all != _assignments(self.text, goes_on=True):
            raise self.error(
                "a comment ends in a backslash: some versions of systemd take the next line for a"
                " part of it, others do not",
                "Take the backslash off the end of the comment.",
            )
        for one in self.all:
            if one.open:
                line = self.line(one.key)
                raise self.error(
                    f"the quote of {one.name} is not closed (line {line})", "Close it."
                )

    def error(self, what: str, remedy: str) -> ModelOpsError:
        return ModelOpsError(what, where=self.where, remedy=f"{remedy} Then run again.")

    def last(self, name: str) -> Assignment | None:
        """Return the assignment of a name that counts."""
        return next((one for one in reversed(self.all) if one.name == name), None)

    def times(self, name: str) -> int:
        """Return how often a name is assigned."""
        return sum(one.name == name for one in self.all)

    def line(self, position: int) -> int:
        return len(re.findall("\r\n|\r|\n", self.text[:position])) + 1

    def says(self, name: str) -> tuple[str, int] | None:
        """Return the value that a service gets for a name, and its line."""
        found = self.last(name)
        return (found.value, self.line(found.key)) if found else None


def read(content: bytes, names: Iterable[str], where: object = "") -> dict[str, Found | None]:
    """Return the values of `names`: `value` and `raw`, the token as written; None without one.

    Raises:
        ModelOpsError: as for `Environment`.
    """
    file = Environment(content, where)
    found = {name: file.last(name) for name in names}
    return {
        name: {"value": one.value, "raw": file.text[one.start : one.end]} if one else None
        for name, one in found.items()
    }


def plan(content: bytes, values: Mapping[str, Value], where: object = "") -> list[byte_edits.Edit]:
    """Return the edits that give names these values; see yaml_edit.plan.

    The quotes of a value stay where the new text allows them. A name that is not there gets a line
    of its own at the end. ABSENT removes the line of the assignment that counts.

    Raises:
        ModelOpsError: as for `Environment`; or a value cannot be written or proven right.
    """
    file, wanted = Environment(content, where), plain(values, where)
    changes: list[Change] = []
    added = ""
    for name, value in wanted.items():
        if not NAME.fullmatch(name):
            raise file.error(f"{name!r} is no name of a variable", "Correct sarai_config_int8.")
        one = file.last(name)
        if value == ABSENT:
            changes += [_without(file.text, one)] if one else []
            continue
        token = value["raw"] if isinstance(value, dict) else None
        if one is None:
            added += f"{name}={_token(text(value), '') if token is None else token}\n"
        elif token is not None or one.value != text(value):
            old = file.text[one.start : one.end]
            new = _token(text(value), old[:1]) if token is None else token
            changes.append(Change(one.start, one.end, new))
    edits = byte_edits.edits(file.text, [*sorted(changes), *_appended(file.text, added)])
    _prove(file, content, edits, wanted)
    return edits


def text(value: object) -> str:
    """Return a scalar as the text that a variable holds."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _token(value: str, quote: str) -> str:
    """Write a value in the quotes wanted, or in double quotes where those cannot hold it."""
    if quote == "'" and "'" not in value:
        return f"'{value}'"
    if quote != '"' and PLAIN.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\`$])', r"\\\1", value) + '"'


def _without(file: str, one: Assignment) -> Change:
    """Remove an assignment's lines with the break before them, as they were put in."""
    start = max(file.rfind(c, 0, one.key) for c in NEWLINE) + 1
    end = next((i for i in range(one.end, len(file)) if file[i] in NEWLINE), len(file))
    if start == 0:
        rest = re.compile("\r\n|\r|\n").match(file, end)
        return Change(0, rest.end() if rest else end, "")
    return Change(start - (2 if file[:start].endswith("\r\n") else 1), end, "")


def _appended(file: str, lines: str) -> list[Change]:
    """Put lines at the end, with the file's own line breaks; its last line ends as it did."""
    if not lines:
        return []
    breaks = re.findall("\r\n|\r|\n", file)
    lines = lines.replace("\n", breaks[0] if breaks else "\n")
    if not file:
        return [Change(0, 0, lines)]
    last = breaks[-1] if breaks and file.endswith(breaks[-1]) else ""
    place = len(file) - len(last)
    ending = breaks[0] if breaks else "\n"
    return [Change(place, place, ending + lines.removesuffix(ending))]


def _prove(
    file: Environment,
    content: bytes,
    edits: Sequence[byte_edits.Edit],
    wanted: Mapping[str, Value],
) -> None:
    """Make the edits and parse again: all other assignments equal, ours as wanted."""
    after = Environment(byte_edits.apply(content, edits, file.where), file.where)
    for name, value in wanted.items():
        one = after.last(name)
        if value == ABSENT:
            fine = after.times(name) == max(0, file.times(name) - 1)
        elif isinstance(value, Mapping):
            fine = one is not None and after.text[one.start : one.end] == value["raw"]
        else:
            fine = one is not None and one.value == text(value)
        if not fine:
            raise file.error(
                f"{name} would not read back as the value wanted", "Write it as NAME=value."
            )
    before, now = (
        [(o.name, o.value) for o in parsed.all if o.name not in wanted] for parsed in (file, after)
    )
    if before != now:
        raise file.error(
            "the edit would change other variables too", "Write each variable as NAME=value."
        )


def _assignments(file: str, *, goes_on: bool) -> list[Assignment]:
    """Parse a file as systemd does.

    Args:
        goes_on: whether a comment goes on behind a backslash at the end of its line.
    """
    found: list[Assignment] = []
    position = 0
    while position < len(file):
        if file[position] in BLANK:
            position += 1
        elif file[position] in COMMENT:
            position = _comment_end(file, position, goes_on=goes_on)
        else:
            key, position = position, position + 1  # systemd lets a name begin with `=` too
            while position < len(file) and file[position] not in "=" + NEWLINE:
                position += 1
            if position < len(file) and file[position] == "=":
                name = file[key:position].rstrip(BLANK)
                value, start, end, is_open = _value(file, position + 1)
                found.append(Assignment(name, value, key, start, end, is_open))
                position = max(end, position + 1)
    return found


def _comment_end(file: str, position: int, *, goes_on: bool) -> int:
    while position < len(file) and file[position] not in NEWLINE:
        position += 2 if goes_on and file[position] == "\\" else 1
    return position


def _quoted(character: str) -> str:
    """Return what a backslash and a character stand for between double quotes."""
    if character == "\n":
        return ""
    return character if character in ESCAPED else f"\\{character}"


def _between(file: str, position: int, quote: str) -> tuple[str, int, bool]:
    """Read up to the quote that closes: the text, the place behind it, and whether none does."""
    value = ""
    while position < len(file):
        c = file[position]
        position += 1
        if c == quote:
            return value, position, False
        if c == "\\" and quote == '"':
            value += _quoted(file[position : position + 1])
            position += 1
        else:
            value += c
    return value, len(file), True


def _value(file: str, position: int) -> tuple[str, int, int, bool]:
    """Read a value: its text, where its token starts and ends, and whether a quote stays open."""
    after_equals = position
    while position < len(file) and file[position] in " \t":
        position += 1
    start = end = position
    value, kept = "", 0  # `kept`: characters of the value that are no blanks at its end
    is_open = False
    bare = False  # within unquoted text, where a quote is a character like others
    while position < len(file) and file[position] not in NEWLINE:
        c = file[position]
        if c in "'\"" and not bare:
            text, position, is_open = _between(file, position + 1, c)
            value += text
            kept, end = len(value), position
            continue
        position += 1
        if c in " \t":
            value += c if bare else ""
            continue
        bare = True
        if c == "\\":
            following = file[position : position + 1]
            c = "" if following in NEWLINE else following
            position += 1
        value += c
        kept, end = len(value), min(position, len(file))
    if start == end:  # an empty value has no token; its place is the same whatever blanks follow
        start = end = after_equals
    return value[:kept], start, end, is_open
