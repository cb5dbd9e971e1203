"""Targets are released to in batches, as `serial` of a play would cut them."""

from __future__ import annotations

import pytest
from modelops.execution.batches import batches


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
