"""env_edit: a systemd EnvironmentFile is read as systemd reads it, and only our values change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from config_texts import FP32, INT8, wanted
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.config import byte_edits, env_edit, plan
from modelops.config.values import ABSENT, restoring

NAME, MEMORY = "OMNI_MODEL_PATH", "OMNI_MEMORY_MB"
OURS = {
    "manager": "environment_file",
    "path_key": NAME,
    "fp32": {NAME: FP32, MEMORY: 4400},
    "int8": {NAME: INT8, MEMORY: 1200},
}


def edited(text: str, values: dict[str, Any]) -> str:
    edits = json.loads(json.dumps(env_edit.plan(text.encode(), values)))
    result = byte_edits.apply(text.encode(), edits)
    assert byte_edits.apply(result, byte_edits.invert(edits)) == text.encode()
    assert env_edit.plan(result, values) == []
    return result.decode()


class Systemd:
    """The states of parse_env_file_internal (systemd 254 and later); each takes a character."""

    def __init__(self) -> None:
        self.state = self.before_key
        self.key = self.value = ""
        self.blank_from: int | None = None
        self.found: list[tuple[str, str]] = []

    def before_key(self, c: str) -> None:
        if c in "#;":
            self.state = self.comment
        elif c not in " \t\r\n":
            self.state, self.key = self.in_key, c

    def in_key(self, c: str) -> None:
        if c in "\r\n":
            self.state = self.before_key
        elif c == "=":
            self.state, self.value, self.blank_from = self.before_value, "", None
        else:
            self.key += c

    def before_value(self, c: str) -> None:
        if c in "\r\n":
            self.end()
        elif c in "'\"":
            self.state = self.single if c == "'" else self.double
        elif c == "\\":
            self.state = self.escape
        elif c not in " \t":
            self.state, self.value, self.blank_from = self.in_value, self.value + c, None

    def in_value(self, c: str) -> None:
        if c in "\r\n":
            self.end()
            return
        if c == "\\":
            self.state, self.blank_from = self.escape, None
            return
        if c not in " \t":
            self.blank_from = None
        elif self.blank_from is None:
            self.blank_from = len(self.value)
        self.value += c

    def escape(self, c: str) -> None:
        self.state, self.value = self.in_value, self.value + ("" if c in "\r\n" else c)

    def single(self, c: str) -> None:
        if c == "'":
            self.state = self.before_value
        else:
            self.value += c

    def double(self, c: str) -> None:
        if c in '"\\':
            self.state = self.before_value if c == '"' else self.double_escape
        else:
            self.value += c

    def double_escape(self, c: str) -> None:
        self.state = self.double
        self.value += c if c in '"\\`$' else "" if c == "\n" else "\\" + c

    def comment(self, c: str) -> None:
        if c in "\r\n":
            self.state = self.before_key

    def end(self) -> None:
        blank_from = self.blank_from if self.state == self.in_value else None
        self.found.append((self.key.rstrip(" \t"), self.value[:blank_from]))
        self.state = self.before_key


def as_systemd(text: str) -> list[tuple[str, str]]:
    """The assignments that systemd finds in a file."""
    reader = Systemd()
    for c in text:
        reader.state(c)
    if reader.state not in (reader.before_key, reader.in_key, reader.comment):
        reader.end()
    return reader.found


PIECES = ["A", "B", NAME, "=", "=", "'", '"', "\\", " ", "\t", "\n", "\n", "\r\n", "#", ";", "a b"]
FILES = st.lists(st.sampled_from([*PIECES, "ñ", "$X", f"\n{NAME}=x"]), max_size=25).map("".join)


@settings(max_examples=examples(400))
@given(FILES, st.text("ab \"'\\$`#é\n", max_size=6))
def test_any_file_is_read_as_systemd_does_and_edited_rightly(text: str, new: str) -> None:
    try:
        file = env_edit.Environment(text.encode(), "f")
        assert [(one.name, one.value) for one in file.all] == as_systemd(text)
        result = edited(text, {NAME: new})
    except ModelOpsError:
        return
    found = as_systemd(result)
    assert [one for one in found if one[0] == NAME][-1] == (NAME, new)
    others = [one for one in as_systemd(text) if one[0] != NAME]
    assert [one for one in found if one[0] != NAME] == others
    before = env_edit.read(text.encode(), [NAME])
    back = byte_edits.apply(result.encode(), env_edit.plan(result.encode(), restoring(before)))
    assert back.decode() == text


# What is written, and what becomes of it with the value `v_int8`.
EDITED = {
    "plain": ("A=1\nM=v # no comment\nB=2\n", "A=1\nM=v_int8\nB=2\n"),
    "quotes stay": ("M='v'\nN=\"w\"", "M='v_int8'\nN=\"w\""),
    "double quotes": ('  M = "v"  \r\nB=2\r\n', '  M = "v_int8"  \r\nB=2\r\n'),
    "the last one counts": ("M=a\nM=b\nB=1\n", "M=a\nM=v_int8\nB=1\n"),
    "in comments": ("#M=a\n; M=b\nM=c\n", "#M=a\n; M=b\nM=v_int8\n"),
    "over two lines": ("M=a\\\nb\nB=1\n", "M=v_int8\nB=1\n"),
    "empty": ("M=\nB=1\n", "M=v_int8\nB=1\n"),
    "not there": ("# año\nB=1", "# año\nB=1\nM=v_int8"),
    "not there, CRLF": ("B=1\r\n", "B=1\r\nM=v_int8\r\n"),
    "no file": ("", "M=v_int8\n"),
}


@pytest.mark.parametrize(("text", "right"), EDITED.values(), ids=EDITED)
def test_a_value_changes_and_comes_back(text: str, right: str) -> None:
    before = env_edit.read(text.encode(), ["M"])
    assert edited(text, {"M": "v_int8"}) == right
    assert edited(right, restoring(before)) == text


@pytest.mark.parametrize(
    ("value", "token"),
    [(True, "true"), (7, "7"), ("a b", '"a b"'), ('$x"\\', '"\\$x\\"\\\\"'), ("it's", '"it\'s"')],
)
def test_values_are_quoted_where_they_need_it(value: Any, token: str) -> None:
    assert edited("M=v\n", {"M": value}) == f"M={token}\n"
    assert edited("M='v'\n", {"M": "it's"}) == 'M="it\'s"\n'


REFUSED = {
    "a comment that may go on": ("# x\\\nM=1\n", "comment ends in a backslash"),
    "an open quote": ('A=1\nM="v\nB=2\n', "quote of M is not closed (line 2)"),
    "not UTF-8": (b"M=\xf1", "not UTF-8: line 1"),
    "a byte order mark": ("\ufeffM=1", "byte order mark"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_what_systemd_reads_differently_is_refused(text: str | bytes, said: str) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ModelOpsError) as caught:
        env_edit.plan(content, {"M": "v"}, "sarai.env")
    assert said in str(caught.value) and caught.value.remedy


def test_names_and_tokens_are_checked() -> None:
    for values in ({"M N": "v"}, {"M": {"raw": "v\nB=2"}}, {"M": {"raw": "'"}}):
        with pytest.raises(ModelOpsError):
            env_edit.plan(b"M=1\n", values)
    assert edited("M=1\nB=1\n", {"M": ABSENT}) == "B=1\n"


# ------------------------------------------------------------------ as a configuration

FILE = f"# voz\nOTHER=1\n{NAME}='{FP32}'\n{MEMORY}=4400\n"


def planned(text: str, previous: Any = None, *, back: bool = False, **changed: Any) -> dict:
    given = wanted(**{**OURS, **changed})
    return plan.plan(text.encode(), given, previous or {}, back=back)


def test_there_and_back_as_with_yaml() -> None:
    made = planned(FILE)
    int8 = byte_edits.apply(FILE.encode(), made["config"]["int8"]).decode()
    assert int8 == FILE.replace(FP32, INT8).replace("4400", "1200")
    again = planned(int8, made["previous"], back=True)
    assert again["config"]["int8"] == [] and again["config"]["names"]["fp32"] == FP32
    assert byte_edits.apply(int8.encode(), again["config"]["fp32"]).decode() == FILE
    by_hand = int8.replace("1200", "4700")
    kept = planned(by_hand)["previous"]
    assert kept == {MEMORY: {"value": "4700", "raw": "4700"}}


def test_preflight_tells_what_the_file_sets() -> None:
    (row,) = plan.findings(FILE.encode(), wanted(**OURS))
    assert (row["level"], row["value"]) == ("ok", f"the file names {FP32} (line 3)")
    (row,) = plan.findings(b"A=1\nB=2\n", wanted(**OURS))
    assert row["level"] == "problem" and "sets no OMNI_MODEL_PATH" in row["value"]
    assert "A, B" in row["value"] and "sarai_config_path_key" in row["remedy"]
    (row,) = plan.findings(FILE.encode(), wanted(**OURS | {"manager": "toml"}))
    assert "sarai_config_manager is 'toml'" in row["value"]


def test_a_file_is_made_where_there_is_none() -> None:
    made = plan.plan(None, wanted(**OURS), {}, back=False)["config"]
    assert made["content"] == f"{NAME}={FP32}\n{MEMORY}=4400\n"
