"""The memory of a measured process over its time: few points, and no peak is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from modelops.measuring import session_memory
from modelops.measuring.session_memory import Memory


@given(st.lists(st.integers(1, 1 << 40), min_size=1, max_size=2000))
def test_there_are_few_points_and_the_highest_is_one_of_them(seen):
    looks = iter(seen)
    memory = Memory(look=lambda: next(looks))
    for number in range(len(seen)):
        memory.add(number * session_memory.EVERY_S)
    points = memory.points()
    assert 0 < len(points) <= session_memory.MOST
    assert max(highest for _, highest in points) == max(seen)
    times = [after_s for after_s, _ in points]
    assert times == sorted(set(times)) and times[0] == 0


def test_a_process_watches_itself():
    memory = Memory()
    memory.add(0.0)
    ((after_s, resident),) = memory.points()
    assert after_s == 0 and resident > 1 << 20
