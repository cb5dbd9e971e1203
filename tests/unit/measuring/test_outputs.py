"""Outputs of two processes: read from their memory, of every kind, also when one has ended."""

from __future__ import annotations

import math
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.measuring import outputs
from modelops.measuring.compare import compare as compare_models
from modelops.measuring.outputs import Held, compare, open_in, opened
from modelops.measuring.session import Model, Setup
from modelops.measuring.session_inputs import seeded
from modelops.measuring.session_outputs import Shared
from modelops.measuring.similarity import Agreement
from onnx import TensorProto as Tp
from onnx import helper


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Options of a measurement whose folder every test must leave empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    yield Setup(work_dir=folder, timeout_s=60, shapes={"x": [3, 4]}, ranges={"x": [0, 9]})
    assert list(folder.iterdir()) == []


def cast(path: Path, source: int, to: int, shape: list) -> Path:
    node = helper.make_node("Cast", ["x"], ["y"], to=to)
    return models.save(path, [node], {}, {"x": (source, shape)}, {"y": (to, shape)}, external=False)


@pytest.mark.parametrize("shape", [[3, 4], ["n", 4]], ids=["static", "dynamic"])
@pytest.mark.parametrize("to", [Tp.FLOAT, Tp.INT64, Tp.INT32, Tp.BOOL, Tp.STRING])
def test_outputs_of_every_kind_cross_processes(tmp_path, setup, shape, to):
    path = cast(tmp_path / "m.onnx", Tp.INT64, to, shape)
    with (
        setup.work_folder() as work,
        Model(path, setup, work) as model,
        opened(model.run(share=True)) as found,
    ):
        values, rows = found[0].values(), compare(found, found)
        assert found[0].shape == (3, 4)
    drawn = seeded([{"name": "x", "dtype": "int64", "shape": [3, 4]}], 0, setup.ranges, {})["x"]
    kinds = {Tp.STRING: str, Tp.BOOL: bool, Tp.FLOAT: float}
    assert values.tolist() == [kinds.get(to, int)(number) for number in drawn.ravel()]
    assert rows[0]["agreement" if to != Tp.FLOAT else "cosine"] == 1


def test_strings_go_in_and_out(tmp_path, setup):
    path = cast(tmp_path / "m.onnx", Tp.STRING, Tp.STRING, [3, 4])
    result = compare_models(path, path, samples=2, runs=1, setup=setup)
    assert [row["agreement"] for row in result["similarity_rows"]] == [1, 1]
    assert result["candidate"]["repeatable"]
    np.savez(tmp_path / "in.npz", x=np.array([["ñandú", "", "c", "d"]] * 3))
    given_inputs = Setup(inputs=tmp_path / "in.npz", work_dir=setup.work_dir)
    with (
        setup.work_folder() as work,
        Model(path, given_inputs, work) as model,
        opened(model.run(share=True)) as found,
    ):
        assert found[0].values().tolist() == ["ñandú", "", "c", "d"] * 3


def test_outputs_outlive_their_process_and_fresh_runs_leave_them(tmp_path, setup):
    path = cast(tmp_path / "m.onnx", Tp.INT64, Tp.FLOAT, [3, 4])
    with ExitStack() as stack, setup.work_folder() as work:
        with Model(path, setup, work) as model:
            kept = [open_in(stack, model.run(s, share=True, fresh=s > 0)) for s in range(3)]
            before = [outputs[0].values() for outputs in kept]
        with pytest.raises(ProcessLookupError):
            os.kill(model_pid(kept), 0)
        for sample, (outputs_then, values) in enumerate(zip(kept, before, strict=True)):
            assert np.array_equal(outputs_then[0].values(), values)
            with Model(path, setup, work) as model, opened(model.run(sample, share=True)) as own:
                assert compare(outputs_then, own)[0]["max_abs_error"] == 0
    assert not np.array_equal(before[0], before[1])


def model_pid(kept: list) -> int:
    return int(Path(kept[0][0].source.name).parts[2])


@pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")
def test_where_there_is_no_memory_file_a_file_in_the_folder_does(tmp_path, monkeypatch):
    def refuse(_name: str) -> int:
        raise PermissionError("seccomp")

    assert Shared(8, str(tmp_path)).place["path"].startswith("/proc/")
    monkeypatch.setattr(os, "memfd_create", refuse)
    shared = Shared(8, str(tmp_path))
    shared.array("float32", [2])[:] = 7
    assert Path(shared.place["path"]).parent == tmp_path
    assert np.fromfile(shared.place["path"], np.float32).tolist() == [7, 7]
    shared.close()


def held(values, name: str = "y", shape: list | None = None) -> outputs.Output:
    array = np.asarray(values)
    return Held(array).output(name, array.shape if shape is None else shape)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1), st.data())
def test_agreement_is_the_share_of_equal_values_however_it_is_cut(ids, data):
    other = [i if data.draw(st.booleans()) else i + 1 for i in ids]
    (row,) = compare([held(ids)], [held(other)])
    assert row["agreement"] == np.mean(np.array(ids) == np.array(other))
    assert set(row) == {"output", "sample", "agreement"}
    cut = Agreement()
    for one, two in zip(ids, other, strict=True):
        cut.add(np.array([one]), np.array([two]))
    assert cut.figures()["agreement"] == row["agreement"]


def test_blocks_are_those_of_the_whole(monkeypatch):
    values = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    whole = compare([held(values)], [held(values.astype(np.float16))])
    monkeypatch.setattr(outputs.Output.blocks, "__defaults__", (7,))
    assert len(list(held(values).blocks())) == 8
    (row,) = compare([held(values)], [held(values.astype(np.float16))])
    assert row.pop("output") == whole[0].pop("output")
    assert row == pytest.approx(whole[0], rel=1e-9)


def test_an_output_of_many_blocks_is_compared_with_itself(tmp_path):
    """Both sides read one file, in turn."""
    file = tmp_path / "outputs"
    values = np.arange(2.5 * outputs.BLOCK, dtype=np.float32)
    file.write_bytes(values.tobytes())
    with file.open("rb") as source:
        own = outputs.Output("y", "float32", values.shape, values.nbytes, source)
        (figures,) = compare([own], [own])
    assert figures["cosine"] == pytest.approx(1) and figures["mse"] == 0


def test_what_does_not_belong_together_is_refused_or_told():
    with pytest.raises(ModelOpsError, match="no output 'y'"):
        compare([held([1.0])], [held([1.0], "z")])
    with pytest.raises(ModelOpsError, match=r"shape \[1\] instead of \[2\]"):
        compare([held([1.0, 2.0])], [held([1.0])])
    (row,) = compare([held([1.0, 2.0])], [held([1.0])], strict=False)
    assert math.isnan(row["cosine"])
    (row,) = compare([held([1, 2])], [held([1])], strict=False)
    assert row["agreement"] == 0
    for strict in (True, False):
        for other in ([1], ["a"], [True]):
            with pytest.raises(ModelOpsError, match="instead of float64"):
                compare([held([1.0])], [held(other)], strict=strict)
    with pytest.raises(ModelOpsError, match="type str instead of int64"):
        compare([held([1])], [held(["1"])])
