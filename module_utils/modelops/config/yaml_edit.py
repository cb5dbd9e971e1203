"""Change values of one block of a hand-written YAML file, and not one byte besides.

PyYAML only finds where our tokens stand; the text is edited there. Every plan is proven before it
is returned: the edits are made, the result is parsed again, and it must be the same document with
exactly our keys changed. Runs on the controller; `byte_edits` applies the edits on the target.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from ..base.errors import ModelOpsError
from . import byte_edits
from .byte_edits import Change
from .values import ABSENT, Found, Value, plain, same
from .yaml_block import Block
from .yaml_document import BLOCK_HEADER, BREAK, LAST_BREAK, Document, Pair
from .yaml_find import spelled


def read(
    content: bytes, block: Sequence[str], keys: Iterable[str], where: object = ""
) -> dict[str, Found | None]:
    """Return the current values of `keys` in the mapping that the path `block` leads to.

    Returns:
        For each key `value` (str, int, float, bool or None; a date or binary value as its text)
        and `raw`, the token as written, for `raw()`. None for a key that the block does not have
        itself; a value inherited through `<<` is not the block's own.

    Raises:
        ModelOpsError: as for `plan`.
    """
    keys = list(keys)
    found = Block(Document(content, where), block, keys)
    return {key: found.describe(key) if key in found.pairs else None for key in keys}


def plan(
    content: bytes, block: Sequence[str], values: Mapping[str, Value], where: object = ""
) -> list[byte_edits.Edit]:
    """Return the edits that give keys of the mapping that the path `block` leads to these values.

    A replaced string keeps its quotes where the new text allows them; trailing comments, spaces
    and line endings stay. A missing key becomes a line of its own behind the key before it in
    `values`, else behind the block's last key. ABSENT removes the key's line with its comment.

    Args:
        content: the file.
        block: keys, one below the other; a number is a place in a list.
        values: scalars, `raw(...)` or ABSENT; in the order in which missing keys are wanted.
        where: the file's name for messages.

    Returns:
        Edits for `byte_edits.apply`; none when every value is there already.

    Raises:
        ModelOpsError: the file is not one UTF-8 YAML document, the block is missing, empty,
            doubled, an alias or no mapping, a value of ours is doubled, a list or a mapping, the
            change would reach others through an anchor, or the result cannot be proven right.
    """
    wanted = plain(values, where)
    found = Block(Document(content, where), block, wanted)
    changes = _changes(found, wanted)
    if not changes:
        return []
    for depth, node in enumerate(found.above):
        found.refuse_shared(node, spelled(tuple(block[:depth])) if depth else "the whole file")
    found.refuse_shared(found.node, found.name)
    edits = byte_edits.edits(found.doc.text, changes)
    _prove(found, content, edits, block, wanted)
    return edits


def _render(value: Any, style: str | None, flow: bool) -> str:
    """Return a scalar's token in the quoting wanted where it allows it, always on one line."""
    if not isinstance(value, str):
        return _dump(value, None, flow)
    preferred = {"'": ("'", '"'), '"': ('"',)}.get(style or "", (None, "'", '"'))
    return next(t for t in (_dump(value, s, flow) for s in preferred) if not BREAK.search(t))


def _dump(value: Any, style: str | None, flow: bool) -> str:
    # In a list, because PyYAML ends a plain scalar at the top with "..."
    text = yaml.safe_dump(
        [value], default_style=style, default_flow_style=flow, allow_unicode=True, width=1 << 30
    )
    return text[1:-2] if flow else text[2:-1]  # out of "[value]\n" or "- value\n"


def _changes(found: Block, wanted: Mapping[str, Any]) -> list[Change]:
    """Return what has to change, in the order of the text."""
    changes: list[Change] = []
    changes += _remove(found, [key for key in found.pairs if wanted[key] == ABSENT])
    for key in found.pairs:
        if wanted[key] != ABSENT and not _is_there(found, key, wanted[key]):
            found.refuse_shared(found.pairs[key][1], f"{found.name}.{key}")
            changes += _replace(found, key, _token(found, wanted[key], found.style(key)))
    for pair, keys in _insertions(found, wanted).items():
        changes += _insert(found, found.node.value[pair], {key: wanted[key] for key in keys})
    # Sorted by the end too: what is put in at a place comes before what is taken away from there.
    return sorted(changes, key=lambda change: (change.start, change.end))


def _is_there(found: Block, key: str, wanted: Any) -> bool:
    current = found.value(key)  # also refuses a list or a mapping
    if isinstance(wanted, dict):
        return found.token(key) == str(wanted["raw"])
    return same(current, wanted)


def _token(found: Block, wanted: Any, style: str | None) -> str:
    if isinstance(wanted, dict):
        return str(wanted["raw"])
    return _render(wanted, style, bool(found.node.flow_style))


def _replace(found: Block, key: str, token: str) -> list[Change]:
    """Put a token in a value's place. The lines of a block scalar stand below the comment."""
    doc, (start, end) = found.doc, found.span(key)
    line_end = body_end = doc.line_end(end)
    inline_end = end
    if header := BLOCK_HEADER.match(doc.text, start, end):
        inline_end, line_end, body_end = header.end(), doc.line_end(start), end
    first, body = token, ""
    if BLOCK_HEADER.match(token) and (line_break := BREAK.search(token)):
        first, body = token[: line_break.start()], token[line_break.start() :]
    if start == end:  # an empty value; in `{model_path}` even the colon is missing
        colon = isinstance(doc.tokens[doc.last_token(end)], yaml.ScalarToken | yaml.AliasToken)
        first = f"{':' if colon else ''} {first}"
    elif not first:  # back to an empty value: the space before it goes too
        start -= len(doc.text[:start]) - len(doc.text[:start].rstrip(" "))
    return [Change(start, inline_end, first), Change(line_end, body_end, body)]


def _insertions(found: Block, wanted: Mapping[str, Any]) -> dict[int, list[str]]:
    """Return behind which pair of the block (its index) which missing keys come."""
    pairs: list[Pair] = found.node.value
    index_of = {key: pairs.index(pair) for key, pair in found.pairs.items()}
    gone = {index_of[key] for key in index_of if wanted[key] == ABSENT}
    kept = [index for index in range(len(pairs)) if index not in gone]
    if not kept:
        raise found.doc.error(
            f"without {' and '.join(index_of)} there would be nothing left in {found.name}",
            f"Add another key to {found.name}, or take the whole block out by hand.",
        )
    insertions: dict[int, list[str]] = {}
    behind = kept[-1]
    for key, value in wanted.items():
        if value == ABSENT:
            continue
        if key in index_of:
            behind = index_of[key]
        else:
            insertions.setdefault(behind, []).append(key)
    return insertions


def _insert(found: Block, behind: Pair, values: Mapping[str, Any]) -> list[Change]:
    """Put keys behind a pair, quoted as the pair's own key is."""
    doc, flow = found.doc, bool(found.node.flow_style)
    style = behind[0].style if isinstance(behind[0], yaml.ScalarNode) else None
    entries = [
        f"{_render(key, style, flow)}: {_token(found, value, style)}".rstrip(" ")
        for key, value in values.items()
    ]
    end = doc.end(behind[1])
    line_start = doc.line_start(behind[0].start_mark.index)
    if not flow:
        # Not the first key's own column: it may be a complex key that starts behind its "? "
        column = found.column()
        indent, place = " " * column, doc.line_end(end)
        lines = "".join(f"{doc.line_break(place)}{indent}{entry}" for entry in entries)
        return [Change(place, place, lines)]
    indent = doc.text[line_start : behind[0].start_mark.index]
    following = doc.last_token(behind[1].end_mark.index) + 1
    comma = isinstance(doc.tokens[following], yaml.FlowEntryToken)
    place = doc.line_end(doc.ends[following] if comma else end)
    if indent.strip() or doc.tokens[following + comma].start_mark.index < place:
        return [Change(end, end, "".join(f", {entry}" for entry in entries))]
    # One key a line: keep to that, and leave the comment with its own key.
    lines = ",".join(f"{doc.line_break(place)}{indent}{entry}" for entry in entries)
    return [
        Change(end, end, "" if comma else ","),
        Change(place, place, lines + ("," if comma else "")),
    ]


def _remove(found: Block, keys: Iterable[str]) -> list[Change]:
    """Take out keys with their values and, where they fill lines, those lines."""
    doc, changes = found.doc, list[Change]()
    entries: list[tuple[int, int]] = []  # in flow style, neighbours go as one, with one comma
    previous = -2
    for name in sorted(keys, key=lambda name: found.pairs[name][0].start_mark.index):
        key, value = pair = found.pairs[name]
        found.value(name)  # refuses a list or a mapping
        found.refuse_shared(key, f"the key {found.name}.{name}")
        found.refuse_shared(value, f"{found.name}.{name}")
        start, end = key.start_mark.index, doc.end(value)
        index = found.node.value.index(pair)
        if found.node.flow_style:
            if index == previous + 1:
                start = entries.pop()[0]
            entries.append((start, end))
            previous = index
        elif doc.blank(doc.line_start(start), start):
            changes.append(_whole_lines(doc, start, doc.line_end(end)))
        else:
            raise doc.error(
                f"{found.name}.{name} does not start its line ({doc.place(start)})",
                "Put it on a line of its own and run again.",
            )
    return changes + [change for entry in entries for change in _remove_entry(doc, *entry)]


def _whole_lines(doc: Document, start: int, end: int) -> Change:
    """Remove lines with the break before them, as they were put in; a line is always above."""
    above = doc.text[: doc.line_start(start)]
    before = doc.tokens[doc.last_token(len(above))]
    if end == len(doc.text) and isinstance(before, yaml.ScalarToken) and before.style in ("|", ">"):
        return Change(len(above), end, "")  # the break before is part of that value
    return Change(len(above) - len(LAST_BREAK.findall(above)[0]), end, "")


def _remove_entry(doc: Document, start: int, end: int) -> list[Change]:
    """Take an entry and one comma out of a flow mapping."""
    first, last = doc.last_token(start), doc.last_token(end)
    changes: list[Change] = []
    if isinstance(doc.tokens[last + 1], yaml.FlowEntryToken):
        end = doc.ends[last + 1]
        following = doc.tokens[last + 2].start_mark.index
        if following <= doc.line_end(end):
            end = following
    elif isinstance(doc.tokens[first], yaml.FlowEntryToken):
        comma = doc.tokens[first].start_mark.index
        if doc.blank(doc.ends[first], start):
            return [Change(comma, end, "")]
        changes.append(Change(comma, comma + 1, ""))
    alone = doc.blank(doc.line_start(start), start) and doc.blank(end, doc.line_end(end))
    whole = _whole_lines(doc, start, doc.line_end(end)) if alone else Change(start, end, "")
    return [*changes, whole]


def _prove(
    before: Block,
    content: bytes,
    edits: Sequence[byte_edits.Edit],
    block: Sequence[str],
    wanted: Mapping[str, Any],
) -> None:
    """Make the edits and compare the two documents: all but our pairs equal, ours as wanted."""
    where = before.doc.where
    remedy = (
        f"Nothing was written. Write {before.name} as plain lines `key: value`, without tags or"
        " other special syntax at its values, and run again."
    )
    try:
        after = Block(Document(byte_edits.apply(content, edits, where), where), block, wanted)
        wrong = [key for key, value in wanted.items() if not _is_as_wanted(after, key, value)]
    except ModelOpsError as error:
        raise ModelOpsError(
            f"the edit would break the file: {error.what}", where=where, remedy=remedy
        ) from None
    if wrong:
        raise ModelOpsError(
            f"{' and '.join(wrong)} in {before.name} would not read back as the value wanted",
            where=where,
            remedy=remedy,
        )
    if before.others(wanted) != after.others(wanted):
        raise ModelOpsError(
            f"the edit of {before.name} would change other values too", where=where, remedy=remedy
        )


def _is_as_wanted(after: Block, key: str, wanted: Any) -> bool:
    if wanted == ABSENT or key not in after.pairs:
        return wanted == ABSENT and key not in after.pairs
    return _is_there(after, key, wanted)
