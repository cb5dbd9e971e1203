"""The quantizer on a disk that fails: power cuts, a full disk, errors of reading and writing."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import models
import pytest
from faults import READING, Disk, LeftOut, Op, Recorder, State
from modelops.execution.module_result import run_guarded
from modelops.quantizer import int8
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe

Pair = dict[str, bytes]
GRAPH, DATA = "out.onnx", "out.onnx.data"


@dataclass
class Case:
    """A destination with the pair of another source, and the pair that is to come."""

    source: Path
    folder: Path
    old: Pair
    new: Pair

    def run(self, **options) -> dict:
        return quantize(self.source, self.folder / GRAPH, Recipe(), threads=1, **options)

    def reset(self, state: State | None = None) -> None:
        """Put the destination back to a state; the old pair without one."""
        shutil.rmtree(self.folder)
        for name, content in (self.old if state is None else state).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.folder.mkdir(exist_ok=True)

    def is_safe(self, state: State) -> bool:
        """The whole old pair, the whole new pair, or no graph."""
        return GRAPH not in state or self._pair(state) in (self.old, self.new)

    def is_new(self, state: State) -> bool:
        return self._pair(state) == self.new

    @staticmethod
    def _pair(state: State) -> Pair:
        return {name: state[name] for name in (GRAPH, DATA) if name in state}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    folder, elsewhere = tmp_path / "dest", tmp_path / "elsewhere"
    for made in (folder, elsewhere):
        made.mkdir()
    old = models.voice(tmp_path / "old.onnx", seed=3)
    new = models.voice(tmp_path / "new.onnx", width=48, rows=80, seed=4)
    for source, place in ((old, folder), (new, elsewhere)):
        quantize(source, place / GRAPH, Recipe(), threads=1)
    return Case(new, folder, models.tree(folder), models.tree(elsewhere))


def recorded(case: Case, hook: Callable[[Op], None] = lambda op: None) -> tuple[Disk, list[Op]]:
    """Run once and return the disk before the run, and what the run did to it."""
    disk = Disk(case.folder)
    recorder = Recorder(case.folder, hook)
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch.setattr)
        case.run()
    return disk, recorder.ops


def states_after_cuts(case: Case, disk: Disk, ops: list[Op]) -> dict[str, list[State]]:
    """Every state that a power cut after each operation can leave, by the operation."""
    states = {"before the run": list(disk.after_power_loss())}
    for number, op in enumerate(ops):
        disk.apply(op)
        states[f"{number}: {op}"] = list(disk.after_power_loss())
    # The model must know all that the run did, or it would prove nothing.
    assert disk.now() == models.tree(case.folder)
    return states


def harm(case: Case, states: dict[str, list[State]]) -> list[str]:
    """The cuts after which the destination holds what nobody may load, or lost what it promised."""
    found = [cut for cut, left in states.items() if not all(map(case.is_safe, left))]
    end = list(states)[-1]
    if not all(map(case.is_new, states[end])):
        found.append("after a run that succeeded")
    return found


# --- the power fails ---------------------------------------------------------------------------


def test_power_loss_leaves_a_whole_pair_or_no_graph_and_the_next_run_recovers(case):
    states = states_after_cuts(case, *recorded(case))
    assert harm(case, states) == []
    distinct = {tuple(sorted(state.items())): state for left in states.values() for state in left}
    print(f"{len(states)} cuts, {len(distinct)} states of the disk")
    assert len(distinct) > 30
    for state in distinct.values():
        case.reset(state)
        case.run()
        assert models.tree(case.folder) == case.new, sorted(state)


def left_out(kind: str, name: str, which: int = 0) -> Callable[[Op], None]:
    """A hook that takes the `which`-th such call out of the code."""
    seen = 0

    def hook(op: Op) -> None:
        nonlocal seen
        if op.kind == kind and (op.target or op.path).name == name:
            seen += 1
            if seen == which + 1:
                raise LeftOut

    return hook


@pytest.mark.parametrize(
    "call",
    [
        ("fsync", DATA),
        ("fsync", GRAPH),
        ("unlink", GRAPH),
        ("fsync", "dest", 0),
        ("replace", DATA),
        ("fsync", "dest", 1),
        ("replace", GRAPH),
        ("fsync", "dest", 2),
    ],
    ids=lambda call: " ".join(map(str, call)),
)
def test_every_step_is_needed(case, call):
    """Without it, power loss does harm: the test above would see it taken out of the code."""
    disk, ops = recorded(case, left_out(*call))
    assert harm(case, states_after_cuts(case, disk, ops))


# --- the disk fails ----------------------------------------------------------------------------


class FailingOnce:
    """A hook: the n-th operation that is meant fails once."""

    def __init__(self, meant: Callable[[Op], bool], number: int, code: int) -> None:
        self.failed: Op | None = None
        self._meant, self._left, self._code = meant, number, code

    def __call__(self, op: Op) -> None:
        if self.failed is None and self._meant(op):
            if self._left == 0:
                self.failed = op
                named = op.kind not in ("read", "write", "fsync", "ftruncate")
                raise OSError(self._code, os.strerror(self._code), *[str(op.path)] * named)
            self._left -= 1


def failing_run(case: Case, hook: Callable[[Op], None], root: Path) -> dict:
    """Run as the module does, hindered, and return its result."""
    with pytest.MonkeyPatch.context() as patch:
        Recorder(root, hook).install(patch.setattr)
        return run_guarded(lambda _params, _check: case.run(), {}, False)


def every_failure(case: Case, meant: Callable[[Op], bool], code: int, root: Path):
    """Let each operation that is meant fail in turn; yield it and the module's result."""
    for number in range(1000):
        case.reset()
        hook = FailingOnce(meant, number, code)
        result = failing_run(case, hook, root)
        if hook.failed is None:
            return
        yield hook.failed, result
    raise AssertionError("it never ends")


@pytest.mark.parametrize("transpose_on_disk", [False, True])
def test_full_disk_leaves_the_old_pair(case, monkeypatch, transpose_on_disk):
    if transpose_on_disk:
        monkeypatch.setattr(int8, "TRANSPOSE_IN_MEMORY", 0)
    writes = 0
    for op, result in every_failure(case, lambda op: op.kind == "write", errno.ENOSPC, case.folder):
        writes += 1
        assert result["failed"], op
        assert "full" in result["msg"], result
        assert models.tree(case.folder) == case.old, op
        assert len(list(case.folder.iterdir())) == 2
    assert writes > 10


def test_any_failing_call_leaves_a_whole_pair_or_no_graph(case):
    kinds = set()
    for op, result in every_failure(
        case, lambda op: op.kind not in READING, errno.EIO, case.folder
    ):
        kinds.add(op.kind)
        left = models.tree(case.folder)
        assert case.is_safe(left), op
        if result.get("failed"):
            assert str(case.folder) in result["msg"], result
            assert "exception" not in result, result
        else:
            assert case.is_new(left), op
        cleaning = op.kind in ("unlink", "rmdir") and op.path.name != GRAPH
        assert cleaning or left.keys() <= {GRAPH, DATA}, (op, list(left))
        case.run()
        assert models.tree(case.folder) == case.new, op
        assert len(list(case.folder.iterdir())) == 2, op
    assert {"write", "fsync", "replace", "unlink", "mkdir", "create"} <= kinds


def test_read_errors_leave_the_old_pair(case):
    reads = 0
    sources = {case.source.name, f"{case.source.name}.data"}
    for op, result in every_failure(
        case, lambda op: op.path.name in sources, errno.EIO, case.source.parent
    ):
        reads += 1
        assert result["failed"], op
        assert op.path.name in result["msg"], result
        assert "exception" not in result or op.kind != "read", result
        assert models.tree(case.folder) == case.old, op
        assert len(list(case.folder.iterdir())) == 2
    assert reads > 10


@pytest.mark.parametrize("change", ["touched", "grown", "shrunk"])
def test_source_that_changes_while_it_is_read(case, change):
    data = case.source.with_name(f"{case.source.name}.data")
    content = data.read_bytes()

    def disturb(at: int) -> Callable[[Op], None]:
        count = 0

        def hook(op: Op) -> None:
            nonlocal count
            if op.kind != "read" or op.path != data:
                return
            count += 1
            if count == at:
                if change == "touched":
                    os.utime(data, ns=(1, 1))
                else:
                    os.truncate(data, len(content) * (2 if change == "grown" else 0))

        return hook

    for at in (1, 2, 3, 5, 7):
        case.reset()
        data.write_bytes(content)
        result = failing_run(case, disturb(at), case.source.parent)
        assert result["failed"], at
        assert f"{data.name}: " in result["msg"], result
        assert re.search("changed while|shorter while|truncated", result["msg"]), result
        assert "exception" not in result
        assert models.tree(case.folder) == case.old
        assert len(list(case.folder.iterdir())) == 2
