"""Targets are released to in batches, as `serial` of a play would cut them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from filter_plugins.modelops import batches


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([1, "100%"], [["c"], ["a", "b", "e", "d"]]),
        (2, [["c", "a"], ["b", "e"], ["d"]]),
        ("1", [["c"], ["a"], ["b"], ["e"], ["d"]]),
        ([1, 2], [["c"], ["a", "b"], ["e", "d"]]),
        ("40%", [["c", "a"], ["b", "e"], ["d"]]),
        ("1%", [["c"], ["a"], ["b"], ["e"], ["d"]]),
        (0, [["c"], ["a"], ["b"], ["e"], ["d"]]),
    ],
)
def test_the_order_of_the_inventory_is_kept(sizes, wanted):
    assert batches(["c", "a", "b", "e", "d"], sizes) == wanted
    assert batches([], sizes) == []
