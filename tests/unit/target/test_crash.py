"""The power fails at every system call of every operation: the invariant holds, a rerun converges.

The calls that change a disk are counted; at the n-th one the run ends, for every n there is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from examples import whole
from modelops.base.errors import ModelOpsError
from modelops.config import replace
from modelops.target import change as moves
from target import Target

CALLS = ("replace", "rename", "open", "write", "fsync", "link", "unlink", "mkdir", "rmdir")


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are cut here, no disk: what fsync does is test_power_cut's to ask."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class PowerCutError(BaseException):
    """No handler of the code under test may catch it."""


class Power:
    """Cuts the power before the n-th call; without a number it only counts."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.limit: int | None = None
        for name in CALLS:
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable) -> Callable:
        def counted(*args, **kwargs):
            if self.limit is not None and self.count >= self.limit:
                raise PowerCutError  # and stay off: nothing after it may write either
            self.count += 1
            return call(*args, **kwargs)

        return counted


def first(target: Target) -> dict:
    return target.arrive("A")


def staged(target: Target) -> dict:
    listed = target.arrive("A")
    target.stage(listed)
    return listed


def active(target: Target) -> dict:
    listed = staged(target)
    target.activate(listed["release_id"])
    return listed


def two(target: Target) -> dict:
    target.release("A")
    listed = target.arrive("B")
    target.stage(listed)
    return listed


def second_active(target: Target) -> dict:
    listed = two(target)
    target.activate(listed["release_id"])
    return listed


def damaged(target: Target) -> dict:
    target.release("A")
    target.store.live[1].write_bytes(b"damaged")
    listed = target.arrive("A")
    target.stage(listed)
    return listed


def by_hand(target: Target) -> dict:
    target.store.live[0].write_bytes(b"the owner's own")
    return staged(target)


def released(target: Target) -> dict:
    listed = active(target)
    target.commit(listed["release_id"])
    return listed


def activate(target: Target, listed: dict) -> None:
    target.activate(listed["release_id"])


# name: (how it begins, the operation, what is in service at the end: fp32, A or B)
OPERATIONS = {
    "stage": (first, lambda t, m: t.stage(m), "fp32"),
    "first activation": (staged, activate, "A"),
    "replace A with B": (two, activate, "B"),
    "repair a damaged pair": (damaged, activate, "A"),
    "replace the owner's own": (by_hand, activate, "A"),
    "commit": (active, lambda t, m: t.commit(m["release_id"]), "A"),
    "revert to FP32": (active, lambda t, _: t.revert(void=True), "fp32"),
    "revert to A": (second_active, lambda t, _: t.revert(void=True), "A"),
    "revert by the timer": (second_active, lambda t, _: t.revert(with_plan=False), "A"),
    "roll back to FP32": (released, lambda t, _: t.roll_back(), "fp32"),
    "roll back and void": (released, lambda t, _: t.roll_back(void=True), "fp32"),
}


def word(target: Target, in_service: str) -> str:
    graph = target.pairs.get(in_service, {}).get("m_int8.onnx", b"fp32")
    return graph.decode().removeprefix("graph of ")


def allowed_damage(name: str, target: Target) -> bool:
    """The damaged pair of a repair is no whole model until the repair."""
    data = target.store.live[1]
    return name.startswith("repair") and data.exists() and data.read_bytes() == b"damaged"


def rerun(target: Target, listed: dict, operation: Callable) -> None:
    """A run begins with the recovery, so that it plans on what is there after it."""
    moves.recover(target.store)
    operation(target, listed)


def cut_everywhere(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, step: int = 1) -> int:
    """Cut the power at each `step`th call in turn, twice over; return how many there are."""
    begin, operation, end = OPERATIONS[name]
    calls = 0
    while True:
        target = Target(folder / str(calls))
        listed = begin(target)
        with monkeypatch.context() as patch:
            power = Power(patch)
            power.limit = calls
            try:
                operation(target, listed)
                break
            except PowerCutError:
                pass
        calls += step
        if not allowed_damage(name, target):
            target.in_service()
        # The power fails again while the rerun undoes the first one, at another place each time.
        with monkeypatch.context() as patch:
            power = Power(patch)
            power.limit = calls % 11
            with contextlib.suppress(PowerCutError):
                rerun(target, listed, operation)
        if not allowed_damage(name, target):
            target.in_service()
        rerun(target, listed, operation)
        assert word(target, target.in_service()) == end
        assert target.store.load()["pending"] is None
        assert list(target.store.releases.glob("unmanaged-*")) == [] or name.endswith("own")
        shutil.rmtree(target.home)
    assert word(target, target.in_service()) == end
    return calls


@pytest.mark.parametrize("name", OPERATIONS)
def test_power_cut_at_every_call(name, tmp_path, monkeypatch, record_property):
    """In the profile dev at every third."""
    calls = cut_everywhere(name, tmp_path, monkeypatch, 1 if whole() else 3)
    record_property("calls", calls)
    print(f"{name}: {calls} calls")
    assert calls >= 5


def without_the_detour_over_fp32(patch: pytest.MonkeyPatch) -> None:
    original = moves.write_config

    def straight(change, current, wanted):
        if wanted == change.texts.fp32 != change.texts.after:
            return
        original(change, change.texts.before, wanted)

    patch.setattr(moves, "write_config", straight)


def without_the_note_of_what_is_under_way(patch: pytest.MonkeyPatch) -> None:
    original = moves.Change.save

    def forgetful(change, **fields):
        if fields.get("pending"):
            fields = {}
        original(change, **fields)

    patch.setattr(moves.Change, "save", forgetful)


def without_a_whole_configuration(patch: pytest.MonkeyPatch) -> None:
    def torn(path, content, expected):
        with open(path, "wb") as handle:
            os.fsync(handle.fileno())
            handle.write(content)

    patch.setattr(replace, "replace", torn)


@pytest.mark.parametrize(
    "weaken",
    [
        without_the_detour_over_fp32,
        without_the_note_of_what_is_under_way,
        without_a_whole_configuration,
    ],
)
def test_the_test_sees_a_missing_protection(weaken, tmp_path, monkeypatch):
    weaken(monkeypatch)
    with pytest.raises((AssertionError, StopIteration, ModelOpsError, OSError, TypeError)):
        cut_everywhere("replace A with B", tmp_path, monkeypatch)
