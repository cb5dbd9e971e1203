"""What a host said is shown as it was said: nothing in it acts on a terminal or a page."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base import host_text

ANY = st.text(st.characters(codec=None, categories=["C", "L", "N", "P", "S", "Z"]), max_size=60)


@given(ANY)
def test_nothing_unseen_is_left(text):
    said = host_text.plain(text)
    for char in said:
        assert char in "\n\t" or unicodedata.category(char)[0] != "C"
    assert host_text.plain(said) == said
    assert "\n" not in host_text.line(text) and "\t" not in host_text.line(text)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), max_size=60))
def test_what_is_seen_is_kept(text):
    assert host_text.plain(f"{text}\n\t{text} x") == f"{text}\n\t{text} x"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link", "\\link"),
        ("\x9b2Jgone", "gone"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("\u2066a\u2069\u200b\ufeff", "a"),
        ("line\r\nnext\x00\x7f\x85", "line\nnext"),
        ("5\u00a0MB", "5 MB"),
        ("\ud800", ""),
    ],
)
def test_sequences_go_whole(said, shown):
    assert host_text.plain(said) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("<script>x</script>", "\\<script>x\\</script>"),
        ("![x](http://y)", "![x]\\(http://y)"),
        ("a\n# Release 1: pass", "a # Release 1: pass"),
        ("# Release 1: pass", "\\# Release 1: pass"),
        ("`code`", "\\`code\\`"),
        ("\\<b>", "\\\\\\<b>"),
        ("required < 0.01", "required < 0.01"),
        ("[a]: b", "[a]\\: b"),
    ],
)
def test_markdown_shows_it_as_it_is(said, shown):
    assert host_text.markdown(said) == shown


def test_code_ends_where_it_should():
    assert host_text.code("a`<b>\n") == "`a'<b>`"


def test_values_are_plain_all_through():
    sent = {"a\x1b[2J": ["\u202eb", {"c": ("d\0", 1, 1.5, None, True)}], "exact": "\u202e"}
    wanted = {"a": ["b", {"c": ["d", 1, 1.5, None, True]}], "exact": "\u202e"}
    assert host_text.plain_values(sent, frozenset({"exact"})) == wanted


def test_what_no_module_sends_is_refused():
    deep: object = 1
    for _ in range(host_text.DEEPEST + 2):
        deep = [deep]
    for value in (deep, {"size": 1 << 63}, [-(1 << 64)]):
        with pytest.raises(ValueError, match=r"nested|64 bits"):
            host_text.plain_values(value)
