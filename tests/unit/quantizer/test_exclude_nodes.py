"""Which nodes a recipe's names mean: `*` and `?` match, all else is plain text."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
from form_cases import FLOAT, W
from hypothesis import given
from hypothesis import strategies as st
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe, meant
from onnx import helper

NAMES = (
    "/layers[0]/MatMul", "/layers[1]/MatMul", "/layers0/MatMul", "MatMul_1", "MatMul_2",
    "MatMul_[12]", "{block}/[!x]", "a*", "ab", "q?", "qk", "Plain", "plain", "two\nlines", "[",
)  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/layers[0]/MatMul", {"/layers[0]/MatMul"}),
        ("/layers[?]/MatMul", {"/layers[0]/MatMul", "/layers[1]/MatMul"}),
        ("*[0]*", {"/layers[0]/MatMul"}),
        ("*]/MatMul", {"/layers[0]/MatMul", "/layers[1]/MatMul"}),
        ("MatMul_[12]", {"MatMul_[12]"}),
        ("MatMul_?", {"MatMul_1", "MatMul_2"}),
        ("MatMul_[!1]", set()),
        ("{block}/*", {"{block}/[!x]"}),
        ("{block}/[!x]", {"{block}/[!x]"}),
        ("{MatMul_1,MatMul_2}", set()),
        ("a*", {"a*"}),  # there is a node of that very name
        ("q?", {"q?"}),
        ("?b", {"ab"}),
        ("plain", {"plain"}),
        ("two*", {"two\nlines"}),
        ("[", {"["}),
        ("", set()),
    ],
)
def test_what_a_name_means(pattern, expected):
    assert meant(pattern, set(NAMES)) == expected


@given(st.text(), st.sets(st.text()))
def test_the_name_of_a_node_means_that_node_alone(name, others):
    assert meant(name, {name, *others}) == {name}


PLAIN = st.text(st.characters(exclude_characters="*?"))


@given(PLAIN, PLAIN, st.characters(exclude_characters="*?"))
def test_stars_and_question_marks_stand_for_text(before, after, one):
    names = {before + one + after, before + after}
    assert meant(f"{before}*{after}", names) == names
    assert meant(f"{before}?{after}", names) == {before + one + after}


def chain(path: Path) -> Path:
    """A MatMul for each name, one behind the other."""
    nodes, value = [], "x"
    for index, name in enumerate(NAMES):
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [f"y{index}"], name=name))
        value = f"y{index}"
    weights = {f"w{index}": W(40, 40, seed=index) for index in range(len(NAMES))}
    return models.save(path, nodes, weights, {"x": (FLOAT, [2, 40])}, {value: (FLOAT, [2, 40])})


@pytest.mark.parametrize("pattern", ["/layers[0]/MatMul", "MatMul_[12]", "MatMul_?", "a*"])
def test_exactly_the_nodes_that_are_meant_stay(tmp_path, pattern):
    result = quantize(
        chain(tmp_path / "m.onnx"), tmp_path / "o.onnx", Recipe(exclude_nodes=(pattern,))
    )
    kept = {entry["node"]: entry["reason"] for entry in result["kept_fp32"]}
    assert kept == dict.fromkeys(meant(pattern, set(NAMES)), "exclude_nodes names it")
    assert not result["notes"]


def test_a_name_that_no_node_has_is_said(tmp_path):
    recipe = Recipe(exclude_nodes=("MatMul_[!1]",))
    (note,) = quantize(chain(tmp_path / "m.onnx"), tmp_path / "o.onnx", recipe)["notes"]
    assert "No node is called 'MatMul_[!1]' (exclude_nodes)" in note and "MatMul_1" in note
