"""config_plan: the configuration wherever it is, and the owner's values from the first touch on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from config_texts import FP32, INT8, NESTED, lines_that_differ, wanted
from modelops.base.errors import ModelOpsError
from modelops.config import byte_edits, plan


def planned(text: str, previous: Any = None, *, back: bool = False, **changed: Any) -> dict:
    made = plan.plan(text.encode(), wanted(**changed), previous or {}, back=back)
    return json.loads(json.dumps(made))


def applied(text: str, made: dict, kind: str) -> str:
    return byte_edits.apply(text.encode(), made["config"][kind]).decode()


def there_and_back(text: str, **changed: Any) -> str:
    """Let a text name INT8, and check that the way back gives every byte back."""
    made = planned(text, **changed)
    assert applied(text, made, "fp32") == text
    int8 = applied(text, made, "int8")
    again = planned(int8, made["previous"], back=True, **changed)
    assert again["config"]["int8"] == []
    assert again["previous"] == made["previous"]
    assert applied(int8, again, "fp32") == text
    assert again["config"]["names"] == made["config"]["names"]
    return int8


def refused(text: str, **changed: Any) -> str:
    with pytest.raises(ModelOpsError) as caught:
        planned(text, **changed)
    return str(caught.value)


def levels(text: str | None, **changed: Any) -> list[tuple[str, str]]:
    rows = plan.findings(None if text is None else text.encode(), wanted(**changed))
    return [(row["level"], f"{row['value']} {row['remedy']}") for row in rows]


# ------------------------------------------------------------------ wherever it is


def test_the_block_is_found_below_others_and_only_two_values_change() -> None:
    assert lines_that_differ(NESTED, there_and_back(NESTED)) == [
        (
            f'model_path: "{FP32}"   # 4.3 GB ⚠ no mover',
            f'model_path: "{INT8}"   # 4.3 GB ⚠ no mover',
        ),
        ("max_memory_mb: 4400  # nunca menos", "max_memory_mb: 1200  # nunca menos"),
    ]


OURS = f"model_path: {FP32}, max_memory_mb: 4400"
# A text, and the path that auto finds in it.
FOUND = {
    "at the top": (f"x: 1\naudio_omni: {{{OURS}}}\n", "audio_omni"),
    "deep": (f"a:\n  b:\n    c:\n      audio_omni: {{{OURS}}}\n", "a.b.c.audio_omni"),
    "flow": (f"{{a: {{b: [1, 2], audio_omni: {{{OURS}}}}}, c: 2}}\n", "a.audio_omni"),
    "a key with a dot": (f"a.b:\n  audio_omni: {{{OURS}}}\n", '["a.b", "audio_omni"]'),
    "a key that is a number": (
        f"a:\n  1:\n    audio_omni: {{{OURS}}}\n",
        '["a", "1", "audio_omni"]',
    ),
    "a key that YAML takes for true": (f"on:\n  audio_omni: {{{OURS}}}\n", "on.audio_omni"),
    "in a list": (
        f"a:\n- name: x\n- audio_omni:\n    model_path: {FP32}\n    max_memory_mb: 1\n",
        '["a", "1", "audio_omni"]',
    ),
    "a list at the top": (f"- x\n- audio_omni: {{{OURS}}}\n", '["1", "audio_omni"]'),
    "one of the name without our key": (
        f"ui:\n  audio_omni: {{icon: x}}\nm:\n  audio_omni: {{{OURS}}}\n",
        "m.audio_omni",
    ),
    "CRLF, a BOM and tabs": (
        f"\ufeffm: #\taño\r\n  audio_omni:\r\n    model_path: {FP32} #\tuno\r\n"
        "    max_memory_mb: 4400\r\n",
        "m.audio_omni",
    ),
    "our key inherited": (
        f"base: &b {{model_path: {FP32}}}\nm:\n  audio_omni:\n    <<: *b\n    max_memory_mb: 1\n",
        "m.audio_omni",
    ),
}


@pytest.mark.parametrize(("text", "path"), FOUND.values(), ids=FOUND)
def test_auto_finds_the_one_block(text: str, path: str) -> None:
    int8 = there_and_back(text)
    assert INT8 in int8 and "1200" in int8
    assert f"{path} names {FP32}" in levels(text)[0][1]
    # The path that is told finds the same block, as text and as a list.
    assert planned(text, block=path)["config"] == planned(text)["config"]


# A text, the variables changed, and what must be said.
REFUSED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "several": (
        f"a:\n  audio_omni: {{{OURS}}}\nb:\n  audio_omni: {{{OURS}}}\n",
        {},
        ["a.audio_omni (line 2)", "b.audio_omni (line 4)", "\nsarai_config_block: b.audio_omni"],
    ),
    "of another name": (
        f"a:\n  voice: {{{OURS}}}\n",
        {},
        ["no block audio_omni", "a.voice (line 2)", "\nsarai_config_block: a.voice"],
    ),
    "none at all": ("a: 1\n", {}, ["no block audio_omni", "no block holds model_path"]),
    "none with our key": (
        "a:\n  audio_omni: {x: 1}\n",
        {},
        ["no block audio_omni that holds model_path", "a.audio_omni (line 2)"],
    ),
    "a wrong path": (
        NESTED,
        {"block": "models.audio"},
        ["there is no models.audio", "expert, audio_omni", "models.audio_omni (line 21)"],
    ),
    "a path through a value": (NESTED, {"block": "general.idioma.x"}, ["no general.idioma.x"]),
    "a block that nobody reads for this": (
        NESTED,
        {"block": "models"},
        ["models has no model_path", "\nsarai_config_block: models.audio_omni"],
    ),
    "a sibling": (NESTED, {"block": "models.vision"}, ["models.vision has no model_path"]),
    "an alias": (
        f"b: &b {{{OURS}}}\nm:\n  audio_omni: *b\n",
        {},
        ["m.audio_omni is the alias *b", "`<<: *b`"],
    ),
    "below what others share": (
        f"d: &d\n  audio_omni: {{{OURS}}}\np:\n  <<: *d\n",
        {},
        ["d carries the anchor &d", "used elsewhere"],
    ),
    "a key twice on the way": (
        f"m:\n  audio_omni: {{{OURS}}}\nm:\n  audio_omni: {{{OURS}}}\n",
        {},
        ["the key m stands there 2 times"],
    ),
    "modular": (
        NESTED.replace('"monolithic"', '"modular"'),
        {},
        ["pipeline_mode in models.audio_omni is 'modular' (line 25)", "'monolithic'"],
    ),
    "a key that may not be added": (
        f"audio_omni:\n  model_path: {FP32}\n",
        {},
        ["has no max_memory_mb", "sarai_config_add: [max_memory_mb]"],
    ),
    "a variable that may stand for INT8": (
        NESTED.replace(FP32, "${MODELS}/agi_audio_core_int8.onnx"),
        {},
        ["'${MODELS}/agi_audio_core_int8.onnx'", "without a variable"],
    ),
    "both values name one model": (NESTED, {"fp32": {"model_path": f"./{INT8}"}}, ["both name"]),
    "no path key among our values": (
        NESTED,
        {"path_key": "talker_path"},
        ["sarai_config_fp32 has no text talker_path", "sarai_config_path_key"],
    ),
    "no path": (NESTED, {"block": "a..b"}, ["sarai_config_block is 'a..b'"]),
    "a path of other things": (NESTED, {"block": ["a", True]}, ["sarai_config_block is"]),
    "an empty path": (NESTED, {"block": []}, ["sarai_config_block is"]),
}


@pytest.mark.parametrize(("text", "changed", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_what_to_do(text: str, changed: dict, said: list[str]) -> None:
    message = refused(text, **changed)
    assert [words for words in said if words not in message] == []
    # Preflight tells the same before anything moves, and nothing of it blocks the way back.
    (row,) = plan.findings(text.encode(), wanted(**changed))
    assert row["level"] == "problem"
    assert [words for words in said if words not in f"{row['value']} {row['remedy']}"] == []


def test_every_problem_comes_at_once() -> None:
    text = "audio_omni: {model_path: $M, pipeline_mode: modular}\n"
    assert [level for level, _ in levels(text)] == ["problem"] * 3
    assert refused(text).startswith("3 problems: ")


def test_advice_stops_nothing() -> None:
    (_, told), (level, advice) = levels(NESTED)
    assert told.startswith(f"models.audio_omni names {FP32} (line 27)")
    assert level == "advice" and "not at the top" in advice
    other = f"audio_omni: {{{OURS}}}\n".replace(FP32, "models/mine.onnx")
    assert "The way back goes there" in levels(other)[1][1]
    assert "there is none" in levels(None)[0][1]


# ------------------------------------------------------------------ keys and values


def test_other_keys_name_the_model_too() -> None:
    changed = {
        "path_key": "talker_path",
        "fp32": {"talker_path": "models/onnx/talker.onnx"},
        "int8": {"talker_path": "models/onnx/talker_int8.onnx", "name": "Omni, INT8"},
    }
    int8 = there_and_back(NESTED, **changed)
    assert [new for _, new in lines_that_differ(NESTED, int8)] == [
        'name: "Omni, INT8"',
        'talker_path: "models/onnx/talker_int8.onnx"',
    ]


def test_keys_are_added_where_the_inventory_says_so_and_taken_back() -> None:
    text = f"audio_omni:\n  model_path: {FP32}\n  x: 1\n"
    int8 = there_and_back(text, add=["max_memory_mb"])
    assert int8 == f"audio_omni:\n  model_path: {INT8}\n  max_memory_mb: 1200\n  x: 1\n"
    text = "m:\n  audio_omni:\n    x: 1\n"
    assert INT8 in there_and_back(text, add=["model_path", "max_memory_mb"])


def test_an_inventory_of_other_keys_on_both_sides() -> None:
    changed = {"fp32": {"model_path": FP32, "sample_rate": 1}, "int8": {"model_path": INT8}}
    assert len(lines_that_differ(NESTED, there_and_back(NESTED, **changed))) == 1


SPELLINGS = ["./{}", "/srv/SARAi/{}", "models//../{}", ".//{}", "/srv/../srv/SARAi/{}"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_path_is_what_it_means(spelling: str) -> None:
    text = NESTED.replace(FP32, spelling.format(FP32))
    there_and_back(text)
    by_hand = NESTED.replace(FP32, spelling.format(INT8)).replace("4400", "1200")
    made = planned(by_hand, back=True)
    assert made["config"]["int8"] == []  # his spelling may stay
    assert applied(by_hand, made, "fp32") == NESTED  # and it is no way back
    assert made["config"]["names"] == {"fp32": FP32, "int8": spelling.format(INT8)}


def test_a_variable_in_the_owners_fp32_path_is_kept() -> None:
    there_and_back(NESTED.replace(FP32, "${SARAI}/agi_audio_core.onnx"))
    there_and_back(NESTED.replace(FP32, "~/agi_audio_core.onnx"))


def test_what_was_never_ours_is_left_alone_on_the_way_back() -> None:
    text = NESTED.replace(FP32, "$MODEL")
    assert planned(text, back=True)["config"]["fp32"] == []
    assert planned(text, back=True)["config"]["names"]["fp32"] == "$MODEL"


# ------------------------------------------------------------------ the owner's values


def test_values_of_an_owner_who_named_int8_by_hand_are_kept() -> None:
    by_hand = NESTED.replace(FP32, INT8).replace("max_memory_mb: 4400", "max_memory_mb: 4700")
    made = planned(by_hand)
    int8 = applied(by_hand, made, "int8")
    assert "max_memory_mb: 1200" in int8
    again = planned(int8, made["previous"], back=True)
    assert applied(int8, again, "fp32") == by_hand.replace(INT8 + '"   #', FP32 + '"   #')
    # Without a record, what is written under INT8 is ours.
    lost = planned(int8, back=True)
    assert applied(int8, lost, "fp32") == NESTED


def test_a_key_that_is_new_in_the_inventory_is_recorded_and_taken_back() -> None:
    first = planned(NESTED)
    int8 = applied(NESTED, first, "int8")
    more = {"int8": {"model_path": INT8, "max_memory_mb": 1200, "name": "Omni INT8", "new": 1}}
    second = planned(int8, first["previous"], add=["new"], **more)
    both = applied(int8, second, "int8")
    assert 'name: "Omni INT8"' in both and "new: 1" in both
    for inventory in (more, {}):  # also when it is gone again from the inventory
        back = planned(both, second["previous"], back=True, **inventory)
        assert applied(both, back, "fp32") == NESTED


def test_a_record_that_names_int8_is_no_way_back() -> None:
    int8 = applied(NESTED, planned(NESTED), "int8")
    bad = {"model_path": {"value": f"./{INT8}", "raw": f"./{INT8}"}, "max_memory_mb": None}
    assert FP32 in applied(int8, planned(int8, bad, back=True), "fp32")


# ------------------------------------------------------------------ the way back


@pytest.mark.parametrize("text", ["audio_omni: [\n", "a: 1\n", "", "\x00"])
def test_a_file_that_cannot_be_planned_does_not_block_the_way_back(text: str) -> None:
    kept = {"model_path": {"value": FP32, "raw": FP32}}
    made = planned(text, kept, back=True)
    assert made["previous"] == kept
    assert made["config"]["unreadable"].startswith("/srv/SARAi/config/sarai.yaml: ")
    assert refused(text)


def test_what_forbids_int8_does_not_block_the_way_back() -> None:
    int8 = applied(NESTED, planned(NESTED), "int8").replace('"monolithic"', '"modular"')
    made = planned(int8, planned(NESTED)["previous"], back=True)
    assert applied(int8, made, "fp32") == NESTED.replace('"monolithic"', '"modular"')


def test_a_configuration_is_made_where_there_is_none() -> None:
    made = plan.plan(None, wanted(block="a.b"), {}, back=False)["config"]
    assert made["content"] == f"a:\n  b:\n    model_path: {FP32}\n    max_memory_mb: 4400\n"
    assert made["sha256"] == "" and made["fp32"] == []
    assert made["names"] == {"fp32": FP32, "int8": INT8}
