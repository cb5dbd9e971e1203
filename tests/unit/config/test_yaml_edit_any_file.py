"""yaml_edit on random hand-written files: only our values change, and everything can go back."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from examples import examples
from hypothesis import event, given, settings
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.config import byte_edits, yaml_edit
from modelops.config import values as config_values
from modelops.config.values import ABSENT

NAME, OURS = "audio_omni", ("model_path", "max_memory_mb")
BLOCK = (NAME,)
NEW_VALUES = st.one_of(
    st.sampled_from(["models/onnx/int8.onnx", "yes", "4400", "a, b", "a: b", "it's", 'q"', "a\nb"]),
    st.text(max_size=8).filter(lambda text: not re.search("[\ud800-\udfff]", text)),
    st.integers(-10, 10_000),
    st.booleans(),
    st.floats(allow_nan=False),
)
# Written values that may stand in a block mapping; {i} is the indentation of what
# belongs to them, {k} the key.
FLOW_OLD = ["a.onnx", "'it''s'", '"a\\tb"', "4_400", "0o17", "yes", "null", "", "*word", "&{k} x"]
BLOCK_OLD = [
    *FLOW_OLD,
    "a\n{i}b\n{i}  c",
    "'a\n\n{i}b'",
    ">-\n{i}a\n{i}b",
    "|2\n{i}  a",
    "\n{i}'b'",
]
OTHERS = ["1", "[a, {{model_path: x}}]", "\n{i}model_path: x\n{i}audio_omni: 2", "|\n{i}# text\n\n"]
OTHERS += ["\n{i}- model_path: x\n{i}- 2", "|+\n{i}a\n\n\n", '"# no comment"', "*word", "", ".nan"]


class Writer:
    """Writes a file as a person would: comments and blank lines wherever they may stand."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.comments = 0
        self.below_block_scalar = False

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def comment(self) -> str:
        self.comments += 1
        return f"# comment {self.comments}é."

    def between(self, indent: int) -> None:
        deepest = indent if self.below_block_scalar else indent + 3  # deeper would be its text
        for _ in range(self.pick(0, 0, 1, 2)):
            self.text += self.pick("", " " * self.pick(0, indent, deepest) + self.comment())
            self.text += "\n"

    def key(self, name: str) -> str:
        return str(self.pick("{}", "{}", "'{}'", '"{}"').format(name))

    def pair(self, indent: int, name: str, value: str) -> None:
        self.between(indent)
        written = value.format(i=" " * (indent + self.pick(1, 2, 5)), k=name)
        self.below_block_scalar = written[:1] in ("|", ">")
        first, line_break, rest = written.partition("\n")
        gap = self.pick("", " ", "    ") if first else ""
        # A comment may end the first line of any value but of a plain or quoted one that goes on.
        goes_on = line_break and first and first[0] not in "|>"
        tail = "  " + self.comment() if not goes_on and self.pick(True, False) else ""
        space = " " + gap if first else ""
        self.text += f"{' ' * indent}{self.key(name)}:{space}{first}{tail}{line_break}{rest}"
        self.text += "" if self.text.endswith("\n") else "\n"

    def pairs(self, olds: list[str]) -> list[tuple[str, str]]:
        ours = [(key, self.pick(*olds)) for key in OURS if self.pick(True, True, False)]
        count = self.pick(0, 1, 2) if ours else 2
        choices = OTHERS if olds is BLOCK_OLD else FLOW_OLD
        others = [(f"k{n}", self.pick(*choices)) for n in range(count)]
        return list(self.draw(st.permutations(ours + others)))

    def block(self, indent: int) -> None:
        self.between(indent)
        start = f"{' ' * indent}{self.key(NAME)}:"
        if self.pick(True, False):
            self.text += start + self.pick("", "  " + self.comment()) + "\n"
            inner = indent + self.pick(1, 2, 3, 4, 9)
            merge = [("<<", "*base")] if self.pick(True, False) else []
            for name, value in merge + self.pairs(BLOCK_OLD):
                if name == "<<":
                    self.text += f"{' ' * inner}<<: {value}\n"
                else:
                    self.pair(inner, name, value)
            return
        self.text += start + " {"
        comma = ""
        for name, value in self.pairs(FLOW_OLD):
            self.text += comma
            if self.pick(True, False):
                self.text += self.pick(" ", "  " + self.comment()) + "\n" + " " * (indent + 3)
            self.text += f"{self.key(name)}: {value.format(k=name)} "
            comma = ","
        self.text += self.pick("", ",") + self.pick("", "\n" + " " * (indent + 1)) + "}\n"


@st.composite
def files(draw: st.DrawFn) -> str:
    writer = Writer(draw)
    writer.text += writer.pick("", "", "---\n", "# top\n%YAML 1.1\n---\n")
    indent = writer.pick(0, 0, 2)
    margin = " " * indent
    writer.text += f"{margin}base: &base {{model_path: inherited, k9: 1}}\n{margin}word: &word w\n"
    for n in range(writer.pick(0, 1, 2)):
        writer.pair(indent, f"before{n}", writer.pick(*OTHERS))
    writer.block(indent)
    for n in range(writer.pick(0, 1, 2)):
        writer.pair(indent, f"after{n}", writer.pick(*OTHERS))
    writer.between(indent)
    text = writer.text
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    return draw(st.sampled_from(["", "\ufeff"])) + text


def loaded(content: bytes) -> Any:
    return yaml.safe_load(content.decode())


def comments(content: bytes) -> list[str]:
    return re.findall(r"# comment \d+é\.", content.decode())


@settings(max_examples=examples(120))
@given(files(), st.fixed_dictionaries(dict.fromkeys(OURS, NEW_VALUES)))
def test_only_our_values_change(text: str, values: dict[str, Any]) -> None:
    content = text.encode()
    expected = loaded(content)
    expected[NAME].update(values)
    edits = json.loads(json.dumps(yaml_edit.plan(content, BLOCK, values)))
    result = byte_edits.apply(content, edits)
    # repr: .nan is not equal to itself, and 1 is equal to True
    assert repr(sorted_keys(loaded(result))) == repr(sorted_keys(expected))
    assert comments(result) == comments(content)
    assert b"\r" in content or b"\r" not in result
    assert yaml_edit.plan(result, BLOCK, values) == []
    assert byte_edits.apply(result, byte_edits.invert(edits)) == content
    event(f"{len(edits)} edits")


@settings(max_examples=examples(120))
@given(files(), st.fixed_dictionaries(dict.fromkeys(OURS, NEW_VALUES)))
def test_read_values_can_be_put_back(text: str, values: dict[str, Any]) -> None:
    content = text.encode()
    before = json.loads(json.dumps(yaml_edit.read(content, BLOCK, OURS)))
    changed = byte_edits.apply(content, yaml_edit.plan(content, BLOCK, values))
    back = yaml_edit.plan(changed, BLOCK, config_values.restoring(before))
    result = byte_edits.apply(changed, back)
    assert yaml_edit.read(result, BLOCK, OURS) == before
    assert repr(sorted_keys(loaded(result))) == repr(sorted_keys(loaded(content)))
    assert comments(result) == comments(content)
    top = yaml.compose(text)
    assert isinstance(top, yaml.MappingNode)
    if not next(node.flow_style for key, node in top.value if key.value == NAME):
        assert result == content  # in a flow mapping a comma or a space may differ


WAYS = st.lists(st.sampled_from(["models", "0", "1", "a.b", "ñ"]), min_size=1, max_size=3)


@settings(max_examples=examples(40))
@given(files(), WAYS, st.fixed_dictionaries(dict.fromkeys(OURS, NEW_VALUES)))
def test_it_is_the_same_below_others(text: str, way: list[str], values: dict[str, Any]) -> None:
    """The file of before as the value of a key, or as an item of a list, of a larger file."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if text.startswith(("---", "# top")):
        text = text.split("---\n", 1)[1]
    path = [*way, NAME]
    for depth, part in enumerate(reversed(way), start=1):
        lead = "- 7\n" * int(part) + "-\n" if part.isdigit() else f'before{depth}: 1\n"{part}":\n'
        text = lead + re.sub("(?m)^(?=.)", "  ", text)
    edits = yaml_edit.plan(text.encode(), path, values)
    result = byte_edits.apply(text.encode(), edits)
    before, after = loaded(text.encode()), loaded(result)
    for part in way:
        before, after = (v[int(part) if part.isdigit() else part] for v in (before, after))
    before[NAME].update(values)
    assert repr(sorted_keys(after)) == repr(sorted_keys(before))
    assert comments(result) == comments(text.encode())
    assert byte_edits.apply(result, byte_edits.invert(edits)) == text.encode()


@settings(max_examples=examples(80))
@given(files(), st.sampled_from(OURS))
def test_one_key_can_be_removed(text: str, key: str) -> None:
    content = text.encode()
    expected = loaded(content)
    own = yaml_edit.read(content, BLOCK, [key])[key]
    # Without the key, blank lines below it would join a scalar that keeps them: rightly refused.
    keeps = "|+" in text
    if own is None or keeps or len(expected[NAME]) == 1 or set(expected[NAME]) == {key, "k9"}:
        return
    result = byte_edits.apply(content, yaml_edit.plan(content, BLOCK, {key: ABSENT}))
    inherited = re.search(r"<<: \*base", text) and key == "model_path"
    if inherited:
        expected[NAME][key] = "inherited"
    else:
        del expected[NAME][key]
    assert repr(sorted_keys(loaded(result))) == repr(sorted_keys(expected))


@settings(max_examples=examples(80))
@given(files(), st.data())
def test_a_broken_file_is_refused_or_edited_rightly(text: str, data: st.DataObject) -> None:
    """Anything but a ModelOpsError is a bug; so is a change outside of our block."""
    broken = list(text)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(broken) - 1))
        broken[place] = data.draw(
            st.sampled_from([*"\t\n\r \x00'\"{}[]:,-?*&!|>%@#\\<=", "", "---"])
        )
    content = "".join(broken).encode()
    try:
        edits = yaml_edit.plan(content, BLOCK, {"model_path": "new", "max_memory_mb": 1})
    except ModelOpsError:
        return
    result = byte_edits.apply(content, edits)
    assert yaml_edit.plan(result, BLOCK, {"model_path": "new", "max_memory_mb": 1}) == []
    assert byte_edits.apply(result, byte_edits.invert(edits)) == content


def sorted_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value
