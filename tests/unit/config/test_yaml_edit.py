"""yaml_edit: one case for each way in which a hand-written file can be laid out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from modelops.base.errors import ModelOpsError
from modelops.config import byte_edits, yaml_edit
from modelops.config import values as config_values
from modelops.config.values import ABSENT, raw

BLOCK = ("audio_omni",)
INT8 = "models/onnx/agi_audio_core_int8.onnx"
WANTED = {"model_path": INT8, "max_memory_mb": 1200}
WHERE = "config/sarai.yaml"


def edited(text: str, values: Any = None) -> str:
    """Plan and apply, and check what must hold for every plan."""
    values = WANTED if values is None else values
    content = text.encode()
    edits = json.loads(json.dumps(yaml_edit.plan(content, BLOCK, values, WHERE)))
    result = byte_edits.apply(content, edits)
    assert byte_edits.apply(result, byte_edits.invert(edits)) == content
    assert yaml_edit.plan(result, BLOCK, values, WHERE) == []
    return result.decode()


def restored(before: str, now: str) -> str:
    """Put back what `read` found before, through JSON as Ansible carries it."""
    found = yaml_edit.read(before.encode(), BLOCK, WANTED, WHERE)
    return edited(now, config_values.restoring(json.loads(json.dumps(found))))


def refusal(text: str | bytes, values: Any = None) -> str:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ModelOpsError) as caught:
        yaml_edit.plan(content, BLOCK, WANTED if values is None else values, WHERE)
    assert caught.value.where == WHERE
    assert caught.value.remedy
    return str(caught.value)


# Text before, text after; in each, putting the read values back gives the bytes before.
CHANGED = {
    "alignment and trailing comments": (
        "# top\naudio_omni:\n   model_path:      a.onnx   # the model\n   max_memory_mb:   4400\n",
        f"# top\naudio_omni:\n   model_path:      {INT8}   # the model\n   max_memory_mb:   1200\n",
    ),
    "quotes stay": (
        "audio_omni:\n  model_path: 'a'  # c\n  max_memory_mb: 1\n",
        f"audio_omni:\n  model_path: '{INT8}'  # c\n  max_memory_mb: 1200\n",
    ),
    "double quotes stay": (
        'audio_omni:\n  model_path: "a"  # c\n  max_memory_mb: 1\n',
        f'audio_omni:\n  model_path: "{INT8}"  # c\n  max_memory_mb: 1200\n',
    ),
    "a quoted number becomes a number": (
        "audio_omni:\n  model_path: a\n  max_memory_mb: '4400'\n",
        f"audio_omni:\n  model_path: {INT8}\n  max_memory_mb: 1200\n",
    ),
    "CRLF and no final newline": (
        "a: 1\r\naudio_omni:\r\n  model_path: a\r\n  max_memory_mb: 1",
        f"a: 1\r\naudio_omni:\r\n  model_path: {INT8}\r\n  max_memory_mb: 1200",
    ),
    "BOM and text of several bytes a character": (
        "\ufeffaudio_omni: # año 😀\n  model_path: ñ.onnx # é\n  max_memory_mb: 1\n",
        f"\ufeffaudio_omni: # año 😀\n  model_path: {INT8} # é\n  max_memory_mb: 1200\n",
    ),
    "flow mapping": (
        "audio_omni: {model_path: a, max_memory_mb: 4400}  # c\n",
        f"audio_omni: {{model_path: {INT8}, max_memory_mb: 1200}}  # c\n",
    ),
    "quoted keys": (
        "'audio_omni':\n  \"model_path\": a\n  'max_memory_mb': 1\n",
        f"'audio_omni':\n  \"model_path\": {INT8}\n  'max_memory_mb': 1200\n",
    ),
    "deep and mixed indentation": (
        "a:\n - b:\n      c: 1\naudio_omni:\n         model_path: a\n"
        "         max_memory_mb: 1\nz:\n  q: 1\n",
        f"a:\n - b:\n      c: 1\naudio_omni:\n         model_path: {INT8}\n"
        "         max_memory_mb: 1200\nz:\n  q: 1\n",
    ),
    "comments and blank lines inside": (
        "audio_omni:\n  # one\n\n  model_path: a\n# outdented\n  max_memory_mb: 1\n"
        "    # two\nz: 1\n",
        f"audio_omni:\n  # one\n\n  model_path: {INT8}\n# outdented\n  max_memory_mb: 1200\n"
        "    # two\nz: 1\n",
    ),
    "multi-line plain scalar": (
        "audio_omni:\n  model_path: a\n    b\n     c # x\n  max_memory_mb: 1\n",
        f"audio_omni:\n  model_path: {INT8} # x\n  max_memory_mb: 1200\n",
    ),
    "folded scalar with a comment at its header": (
        "audio_omni:\n  model_path: >-  # why\n    a\n    b\n\n  # c\n  max_memory_mb: 1\n",
        f"audio_omni:\n  model_path: {INT8}  # why\n\n  # c\n  max_memory_mb: 1200\n",
    ),
    "literal scalar at the end of the file": (
        "audio_omni:\n  max_memory_mb: 1\n  model_path: |\n    a",
        f"audio_omni:\n  max_memory_mb: 1200\n  model_path: {INT8}",
    ),
    "value on the next line": (
        "audio_omni:\n  model_path: # here\n    'a'\n  max_memory_mb:\n    1\n",
        f"audio_omni:\n  model_path: # here\n    '{INT8}'\n  max_memory_mb:\n    1200\n",
    ),
    "empty and null values": (
        "audio_omni:\n  model_path:   # c\n  max_memory_mb: null\n",
        f"audio_omni:\n  model_path: {INT8}   # c\n  max_memory_mb: 1200\n",
    ),
    "document markers": (
        "%YAML 1.1\n---\naudio_omni:\n  model_path: a\n  max_memory_mb: ~\n...\n",
        f"%YAML 1.1\n---\naudio_omni:\n  model_path: {INT8}\n  max_memory_mb: 1200\n...\n",
    ),
    "the same names elsewhere": (
        "model_path: a\nx:\n  audio_omni: {model_path: a}\naudio_omni:\n  model_path: a\n"
        "  max_memory_mb: 1\n  sub: {model_path: a, max_memory_mb: 1}\ny: [model_path: a]\n",
        f"model_path: a\nx:\n  audio_omni: {{model_path: a}}\naudio_omni:\n  model_path: {INT8}\n"
        "  max_memory_mb: 1200\n  sub: {model_path: a, max_memory_mb: 1}\ny: [model_path: a]\n",
    ),
    "YAML 1.1 numbers": (
        "audio_omni:\n  model_path: yes\n  max_memory_mb: 4_400\n  x: 0o17\n",
        f"audio_omni:\n  model_path: {INT8}\n  max_memory_mb: 1200\n  x: 0o17\n",
    ),
    "tags and unused anchors stay": (
        "audio_omni: &me\n  model_path: !!str 'a'\n  max_memory_mb: &mb 12 # a\n",
        f"audio_omni: &me\n  model_path: !!str '{INT8}'\n  max_memory_mb: &mb 1200 # a\n",
    ),
    "an alias as a value": (
        "v: &v a\naudio_omni:\n  model_path: *v  # c\n  max_memory_mb: 1\nw: *v\n",
        f"v: &v a\naudio_omni:\n  model_path: {INT8}  # c\n  max_memory_mb: 1200\nw: *v\n",
    ),
    "complex keys": (
        "? audio_omni\n: ? model_path\n  : a\n  ? max_memory_mb\n  : 12\n",
        f"? audio_omni\n: ? model_path\n  : {INT8}\n  ? max_memory_mb\n  : 1200\n",
    ),
    "tags, dates and .nan of others": (
        "d: 2024-01-01\nn: .nan\nt: !env X\n[a]: 1\naudio_omni:\n  model_path: a\n"
        "  max_memory_mb: 1\n",
        f"d: 2024-01-01\nn: .nan\nt: !env X\n[a]: 1\naudio_omni:\n  model_path: {INT8}\n"
        "  max_memory_mb: 1200\n",
    ),
    "missing: behind the key before it": (
        "audio_omni:\n    model_path: a  # c\n    z: 1\n# end\n",
        f"audio_omni:\n    model_path: {INT8}  # c\n    max_memory_mb: 1200\n    z: 1\n# end\n",
    ),
    "missing: behind the last key": (
        "audio_omni:\r\n  z:\r\n  - 1 # c\r\n\r\n# end\r\nother: 1\r\n",
        f"audio_omni:\r\n  z:\r\n  - 1 # c\r\n  model_path: {INT8}\r\n  max_memory_mb: 1200\r\n"
        "\r\n# end\r\nother: 1\r\n",
    ),
    "missing: no final newline": (
        "audio_omni:\n  z: 1",
        f"audio_omni:\n  z: 1\n  model_path: {INT8}\n  max_memory_mb: 1200",
    ),
    "missing: behind a scalar that keeps blank lines": (
        "audio_omni:\n  z: |+\n    a\n\n\nother: 1\n",
        f"audio_omni:\n  z: |+\n    a\n\n\n  model_path: {INT8}\n  max_memory_mb: 1200\nother: 1\n",
    ),
    "missing: in one-line flow": (
        "audio_omni: {model_path: a, z: [1]}\n",
        f"audio_omni: {{model_path: {INT8}, max_memory_mb: 1200, z: [1]}}\n",
    ),
    "missing: in JSON": (
        '{"audio_omni": {"model_path":"a"}}',
        f'{{"audio_omni": {{"model_path":"{INT8}", "max_memory_mb": 1200}}}}',
    ),
    "missing: in flow with a key a line": (
        "audio_omni: {\n  model_path: a,  # c\n  z: 2   # d\n}\n",
        f"audio_omni: {{\n  model_path: {INT8},  # c\n  max_memory_mb: 1200,\n  z: 2   # d\n}}\n",
    ),
    "missing: in flow with a comma at the end": (
        "audio_omni: {\n  model_path: a,  # c\n}\n",
        f"audio_omni: {{\n  model_path: {INT8},  # c\n  max_memory_mb: 1200,\n}}\n",
    ),
    "inherited through a merge key": (
        "d: &d {model_path: a}\naudio_omni:\n  <<: *d\n  max_memory_mb: 1\n",
        f"d: &d {{model_path: a}}\naudio_omni:\n  <<: *d\n  max_memory_mb: 1200\n"
        f"  model_path: {INT8}\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), CHANGED.values(), ids=CHANGED)
def test_only_our_values_change(before: str, after: str) -> None:
    assert edited(before) == after
    assert restored(before, after) == before


def test_flow_key_without_colon_and_empty_flow_value() -> None:
    assert edited("audio_omni: {model_path, max_memory_mb:, z: 1, }\n") == (
        f"audio_omni: {{model_path: {INT8}, max_memory_mb: 1200, z: 1, }}\n"
    )


def test_missing_key_at_the_end_of_flow_lines_gets_its_comma() -> None:
    before = "audio_omni: {\n  z: 2   # d\n}\n"
    after = f"audio_omni: {{\n  z: 2,   # d\n  model_path: {INT8}\n}}\n"
    assert edited(before, {"model_path": INT8}) == after
    back = edited(after, {"model_path": ABSENT})
    assert back == before


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("yes", "'yes'"),
        ("4400", "'4400'"),
        ("a: b", "'a: b'"),
        ("a #b", "'a #b'"),
        ("", "''"),
        ("a\nb", '"a\\nb"'),
        ("it's", "it's"),
        ("x" * 300, "x" * 300),
        ("C:\\SARAi v2\\x.onnx", "C:\\SARAi v2\\x.onnx"),
        ("0]", "0]"),
        ("- x", "'- x'"),
        (True, "true"),
        (1.5, "1.5"),
        (1e16, "1.0e+16"),
        (float("nan"), ".nan"),
    ],
)
def test_values_are_quoted_where_plain_would_change_them(value: Any, token: str) -> None:
    text = "audio_omni:\n  model_path: a # c\n"
    assert edited(text, {"model_path": value}) == text.replace(": a", f": {token}")


def test_flow_needs_quotes_where_block_does_not() -> None:
    assert edited("audio_omni: {model_path: a}", {"model_path": "a,b"}) == (
        "audio_omni: {model_path: 'a,b'}"
    )
    assert edited("audio_omni:\n  model_path: a", {"model_path": "a,b"}).endswith(": a,b")


def test_single_quotes_give_way_to_double_where_they_must() -> None:
    assert edited("audio_omni: {model_path: 'a'}", {"model_path": "b\tc\n"}) == (
        'audio_omni: {model_path: "b\\tc\\n"}'
    )


def test_equal_values_in_other_spelling_are_left_alone() -> None:
    text = f'audio_omni: &a\n  model_path: "{INT8}"\n  max_memory_mb: 1_200\nz: {{<<: *a}}\n'
    assert edited(text) == text


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_equal_to_python_is_not_equal(value: Any) -> None:
    assert edited("audio_omni: {x: 1}", {"x": value}) != "audio_omni: {x: 1}"


def test_tagged_subclasses_of_str_and_int_are_accepted() -> None:
    class TaggedStr(str):
        __slots__ = ()

    class TaggedInt(int):
        pass

    values = {"model_path": TaggedStr("b"), "max_memory_mb": TaggedInt(7)}
    assert edited("audio_omni: {model_path: a, max_memory_mb: 1}", values) == (
        "audio_omni: {model_path: b, max_memory_mb: 7}"
    )


ABSENTS = {
    "first": ("audio_omni:\n  a: 1 # c\n  b: 2\n", "audio_omni:\n  b: 2\n"),
    "last": ("audio_omni:\n  b: 2\n  a: >\n    x\n    y\n\nz: 1", "audio_omni:\n  b: 2\n\nz: 1"),
    "behind a block scalar": ("audio_omni:\n  b: |\n    x\n  a: 1", "audio_omni:\n  b: |\n    x\n"),
    "flow first": ("audio_omni: {a: 1, b: 2}", "audio_omni: {b: 2}"),
    "flow middle": ("audio_omni: {b: 2, a: 1, c: 3}", "audio_omni: {b: 2, c: 3}"),
    "flow last": ("audio_omni: {b: 2, a: 1}", "audio_omni: {b: 2}"),
    "flow lines": ("audio_omni: {\n b: 2, # c\n a: 1\n}", "audio_omni: {\n b: 2 # c\n}"),
    "flow lines first": ("audio_omni: {\n a: 1,\n b: 2\n}", "audio_omni: {\n b: 2\n}"),
    "not there": ("audio_omni: {b: 2}", "audio_omni: {b: 2}"),
}


@pytest.mark.parametrize(("before", "after"), ABSENTS.values(), ids=ABSENTS)
def test_absent_removes_the_key(before: str, after: str) -> None:
    assert edited(before, {"a": ABSENT}) == after


def test_neighbours_are_removed_together() -> None:
    values = {"a": ABSENT, "c": ABSENT}
    assert edited("audio_omni: {b: 2, c: 1, a: 1}", values) == "audio_omni: {b: 2}"
    assert edited("audio_omni:\n  b: 2\n  c: 1\n  # x\n  a: 1", values) == (
        "audio_omni:\n  b: 2\n  # x"
    )


def test_remove_and_insert_at_once() -> None:
    text = "audio_omni:\n  a: 1\n  b: 2"
    assert edited(text, {"a": 3, "n": 4, "b": ABSENT}) == "audio_omni:\n  a: 3\n  n: 4"


def test_read_gives_values_and_tokens() -> None:
    text = "audio_omni:\n  model_path: 'a'\n  max_memory_mb: 4_400\n  d: 2024-01-01\n  e:\n"
    keys = ["model_path", "max_memory_mb", "d", "e", "missing"]
    assert yaml_edit.read(text.encode(), BLOCK, keys) == {
        "model_path": {"value": "a", "raw": "'a'"},
        "max_memory_mb": {"value": 4400, "raw": "4_400"},
        "d": {"value": "2024-01-01", "raw": "2024-01-01"},
        "e": {"value": None, "raw": ""},
        "missing": None,
    }


GOOD = "audio_omni: {model_path: a, max_memory_mb: 1}\n"
# Text refused, and what the message must say.
REFUSED: dict[str, tuple[str | bytes, list[str]]] = {
    "empty file": ("", ["empty"]),
    "only comments": ("# x\n", ["empty"]),
    "malformed": ("a: 1\nb: c: d\n", ["line 2, column 5", "mapping values are not allowed"]),
    "tab": ("a:\n\tb: 1\n", ["line 2, column 1", "no tab"]),
    "control character": ("a: 1\nb: \x07\n", ["line 2, column 4", "U+0007"]),
    "not UTF-8": (b"a: 1\nb: \xf1\n", ["not UTF-8", "0xf1", "line 2"]),
    "UTF-16": (GOOD.encode("utf-16"), ["not UTF-8"]),
    "too deep": ("a: " + "[" * 5000, ["deep"]),
    "several documents": (GOOD + "---\na: 1\n", ["several YAML documents"]),
    "no mapping": ("1\n", ["not a mapping", "audio_omni"]),
    "no block": ("sarai: 1\n2: 3\n", ["no audio_omni", "sarai, 2", "sarai_config_path_key"]),
    "doubled block": (GOOD + "'audio_omni': {}\n", ["audio_omni", "2 times", "line 2"]),
    "doubled key": ("audio_omni: {model_path: a, 'model_path': b}", ["model_path", "2 times"]),
    "doubled key by alias": ("x: &k model_path\naudio_omni: {*k : a, model_path: b}", ["2 times"]),
    "null block": ("audio_omni:\n", ["audio_omni is empty"]),
    "empty block": ("audio_omni: {}\n", ["audio_omni is empty"]),
    "list block": ("audio_omni: [1]\n", ["a list"]),
    "scalar block": ("audio_omni: x\n", ["a single value"]),
    "mapping value": ("audio_omni: {model_path: {a: 1}}", ["audio_omni.model_path", "a mapping"]),
    "alias to a list": ("x: &x [1]\naudio_omni: {model_path: *x }", ["a list"]),
    "alias block": ("x: &x {a: 1}\naudio_omni: *x\n", ["alias *x", "`<<: *x`", "line 2"]),
    "shared block": ("audio_omni: &a {z: 1}\no: {<<: *a}\n", ["&a", "*a is used elsewhere"]),
    "shared value": (
        "audio_omni: {model_path: &m a}\no: *m\n",
        ["audio_omni.model_path", "&m", "line 1, column 26"],
    ),
    "shared file": ("--- &r\naudio_omni: {z: 1}\nme: *r\n", ["the whole file", "&r"]),
    "tag against the type": ("audio_omni: {max_memory_mb: !!str 1}", ["max_memory_mb", "tags"]),
    "tag of the service": ("audio_omni: {model_path: !env A}", ["!env", "without a tag"]),
    "unreadable number": ("audio_omni: {max_memory_mb: 0x_}", ["0x_"]),
    "tag without a value": ("audio_omni: {max_memory_mb: !!int }", ["tag:yaml.org,2002:int"]),
    "tag with another value": ("audio_omni: {model_path: !!bool x}", ["'x'", "bool"]),
    "escape beyond Unicode": ('a: "\\U00110000"\n' + GOOD, ["malformed YAML"]),
    "complex key without a value": ("audio_omni:\n  ? model_path\n  z: 1\n", ["Nothing was"]),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_what_and_where(text: str | bytes, said: list[str]) -> None:
    message = refusal(text)
    assert [part for part in said if part not in message] == []


def test_nothing_to_change_is_not_refused_for_its_anchors() -> None:
    text = f"audio_omni: &a {{model_path: &m {INT8}, max_memory_mb: 1200}}\no: [*a , *m ]\n"
    assert edited(text) == text


@pytest.mark.parametrize(
    "token", ["b\n  other: 1", "[1]", "{a: 1}", "'", "b, c: 1", "*nobody", "b # c", "&x [*x ]"]
)
def test_raw_cannot_smuggle_anything_in(token: str) -> None:
    for text in ("audio_omni:\n  model_path: a\n", "audio_omni: {model_path: a}\n"):
        assert "Nothing was written" in refusal(text, {"model_path": raw(token)})


@pytest.mark.parametrize(
    "value", [None, [1], {"raw": 1}, {"absent": False}, {"x": 1}, "\ud800", b""]
)
def test_unusable_values_are_refused(value: Any) -> None:
    refusal(GOOD, {"model_path": value})


def test_the_last_key_is_not_removed() -> None:
    assert "nothing left" in refusal("audio_omni: {a: 1}", {"a": ABSENT, "b": 2})


def test_removing_a_key_that_others_name_is_refused() -> None:
    assert "&k" in refusal("audio_omni: {&k a: 1, b: 2}\nz: *k\n", {"a": ABSENT})
    assert "a list" in refusal("audio_omni: {a: [1], b: 2}\n", {"a": ABSENT})
    assert "start its line" in refusal("? audio_omni\n: a: 1\n  b: 2\n", {"a": ABSENT})


def test_a_wrong_edit_is_caught_by_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"z: 1\naudio_omni:\n  model_path: a\n"
    right = byte_edits.edits
    for sabotage, said in [
        ({"offset": 3, "old": "1", "new": "2"}, "would change other values"),
        ({"offset": 3, "old": "1", "new": "{"}, "would break the file"),
    ]:
        monkeypatch.setattr(byte_edits, "edits", lambda t, c, s=sabotage: [s, *right(t, c)])
        with pytest.raises(ModelOpsError, match=said):
            yaml_edit.plan(content, BLOCK, {"model_path": "b"}, WHERE)
