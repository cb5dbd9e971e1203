"""A release on a disk that keeps for sure only what fsync was called for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
from faults import Disk, LeftOut, Op, Recorder, State
from modelops.base.errors import ModelOpsError
from modelops.target import change
from target import Target
from test_crash import OPERATIONS, word


def place(target: Target, state: State) -> None:
    """Bring the target's disk to a state."""
    shutil.rmtree(target.home)
    for name, content in state.items():
        path = target.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    target.config.parent.mkdir(parents=True, exist_ok=True)


def broken_off(name: str, folder: Path, hook: Callable[[Op], None]) -> tuple[Target, dict, list]:
    """Do an operation; return every state that a power cut after each of its calls can leave."""
    begin, operation, _ = OPERATIONS[name]
    target = Target(folder)
    listed = begin(target)
    disk, recorder = Disk(target.home, journal=True), Recorder(target.home, hook)
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch.setattr)
        operation(target, listed)
    states = []
    for number, op in enumerate(recorder.ops):
        disk.apply(op)
        states += [(f"{number}: {op}", state) for state in disk.after_power_loss()]
    assert disk.now() == {
        str(path.relative_to(target.home)): path.read_bytes()
        for path in target.home.rglob("*")
        if path.is_file()
    }, "the model must know all that was done"
    return target, listed, states


def harm(name: str, target: Target, listed: dict, states: list) -> str:
    """Return the first cut after which no whole model is named, or a rerun does not converge."""
    _, operation, end = OPERATIONS[name]
    seen = []
    for cut, state in states:
        if state in seen:
            continue
        seen.append(state)
        place(target, state)
        try:
            target.in_service()
            change.recover(target.store)
            target.in_service()
            operation(target, listed)
            assert word(target, target.in_service()) == end
        except (AssertionError, StopIteration, OSError, TypeError, ModelOpsError) as error:
            return f"{cut}: {error!r}: {sorted(state)}"
    # What an operation that came back has done stays done.
    last = [state for cut, state in states if cut == states[-1][0]]
    for state in last:
        place(target, state)
        if word(target, target.in_service()) != end:
            return "lost although it was done"
    return ""


@pytest.mark.parametrize("name", ["first activation", "replace A with B", "roll back to FP32"])
def test_power_loss(name, tmp_path):
    target, listed, states = broken_off(name, tmp_path / "t", lambda op: None)
    assert len(states) > 20
    assert harm(name, target, listed, states) == ""


@pytest.mark.parametrize(
    "names",
    ["*.before.part", "*.state.json.part", "*/.releases/m", "*.sarai.yaml.part", "t/config",
     "*/.releases/m/????????????????"],
)  # fmt: skip
def test_every_fsync_is_needed(names, tmp_path):
    """Without it, power loss does harm: the test above would see it taken out of the code."""
    name, left_out = "replace A with B", []

    def hook(op: Op) -> None:
        if op.kind == "fsync" and fnmatch(str(op.path.relative_to(tmp_path)), names):
            left_out.append(op)
            raise LeftOut

    target, listed, states = broken_off(name, tmp_path / "t", hook)
    assert left_out
    assert harm(name, target, listed, states)
