"""What a measurement takes, the way that is chosen, and what keeps it from hurting others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base import memory
from modelops.base.errors import ModelOpsError
from modelops.judging.gates import without_reference
from modelops.measuring import needs, neighbour
from modelops.measuring.needs import BOTH, GOLDEN, IN_TURN, Load
from modelops.measuring.session import Model, Setup
from modelops.model import declared
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto as Tp
from onnx import helper

SIZES = st.integers(0, 10**10)
LOADS = st.builds(Load, SIZES, SIZES, SIZES, SIZES)


@given(LOADS, SIZES, SIZES, st.integers(0, 5))
def test_better_ways_take_more(fp32, weights, unpacked, kept):
    # INT8 gives the outputs that FP32 gives.
    int8 = Load(weights, unpacked, fp32.outputs, fp32.batch)
    needed = needs.table(fp32, int8, kept)
    assert needed[BOTH] >= int8.running and needed[IN_TURN] >= needed[GOLDEN]
    assert needed[GOLDEN] >= int8.weights + int8.unpacked + int8.outputs
    if kept <= 1:
        assert needed[BOTH] >= needed[IN_TURN]


def test_the_real_model_on_the_real_box():
    output = 4 * 2048 * 245760
    fp32, int8 = Load(4_330_000_000, 0, output), Load(1_100_000_000, 0, output)
    needed = needs.table(fp32, int8, kept=0)
    assert needed[BOTH] > 10_000_000_000 > needed[IN_TURN] > 7_000_000_000
    assert 3_000_000_000 < needed[GOLDEN] < 4_000_000_000
    for free, mode in ((11_000_000_000, BOTH), (8_000_000_000, IN_TURN), (4_000_000_000, GOLDEN)):
        assert needs.choose("auto", needed, free).mode == mode
    with pytest.raises(ModelOpsError, match="too little memory to measure: 1 GB"):
        needs.choose("auto", needed, 1_000_000_000)
    assert needs.choose(BOTH, needed, 1).mode == BOTH
    with pytest.raises(ModelOpsError, match="golden is not possible"):
        needs.choose(GOLDEN, {BOTH: 1}, None)


def test_what_a_model_takes_is_read_from_its_graph(tmp_path):
    path = models.save(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", [a], [b]) for a, b in (("x", "y"), ("v", "z"))],
        {},
        {"x": (Tp.FLOAT16, [2, 3]), "v": (Tp.FLOAT16, ["n", 3])},
        {"y": (Tp.FLOAT16, [2, 3]), "z": (Tp.FLOAT16, ["n", 3])},
        external=False,
    )
    load = needs.of(path)
    assert (load.weights, load.unpacked, load.outputs) == (path.stat().st_size, 0, 12)
    assert load.batch == 12 + 3 * 6


@given(LOADS, LOADS)
def test_the_outputs_of_batches_wait_while_the_next_model_runs(fp32, int8):
    for mode in (BOTH, IN_TURN):
        needed = needs.needs(fp32, int8, mode, 0)
        assert needed >= fp32.loaded + 2 * fp32.batch
        if fp32.batch:
            assert needed >= 2 * fp32.batch + int8.loaded + int8.batch


def test_weights_that_are_unpacked_at_load_count_twice(tmp_path):
    from modelops.quantizer.quantize import quantize

    src, dest = tmp_path / "m.onnx", tmp_path / "m_int8.onnx"
    models.save(
        src,
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        {"w": np.random.default_rng(0).standard_normal((64, 64, 3)).astype(np.float32)},
        {"x": (Tp.FLOAT, [1, 64, 8])},
        {"y": (Tp.FLOAT, [1, 64, 6])},
    )
    forms = quantize(src, dest, Recipe())["manifest"]["nodes"]
    assert [node["form"] for node in forms] == ["weight_int8"]
    assert declared.read(dest).unpacked_bytes == 64 * 64 * 3 * 4
    assert declared.read(src).unpacked_bytes == 0
    quantize(src, dest, Recipe(name="fp16"))
    assert declared.read(dest).unpacked_bytes == 64 * 64 * 3 * 2  # FP16 goes, FP32 stays


def test_a_run_takes_no_more_than_was_computed(tmp_path):
    path = models.save(
        tmp_path / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": models.random_weight(2048, 2048)},
        {"x": (Tp.FLOAT, [4096, 2048])},
        {"y": (Tp.FLOAT, [4096, 2048])},
    )
    with Setup().work_folder() as work, Model(path, Setup(), work) as model:
        model.run()
        assert needs.of(path).running * 0.3 < model.peak_rss_bytes < needs.of(path).running


def test_a_measuring_process_is_the_first_to_go(tmp_path):
    path = models.save(
        tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], {},
        {"x": (Tp.FLOAT, [2])}, {"y": (Tp.FLOAT, [2])}, external=False,
    )  # fmt: skip
    with Setup().work_folder() as work, Model(path, Setup(), work) as model:
        assert Path(f"/proc/{model.pid}/oom_score_adj").read_text().strip() == "1000"
        assert os.getpriority(os.PRIO_PROCESS, model.pid) == 19
        ionice = subprocess.run(["ionice", "-p", str(model.pid)], capture_output=True, text=True)
        assert "idle" in ionice.stdout


def test_a_scope_where_systemd_answers_and_none_where_it_does_not(tmp_path, monkeypatch):
    neighbour._manager.cache_clear()
    monkeypatch.setattr(neighbour, "SYSTEMD", tmp_path / "none")
    assert neighbour.scope(10**9) == []
    neighbour._manager.cache_clear()
    monkeypatch.setattr(neighbour, "SYSTEMD", tmp_path)
    tool = tmp_path / "systemd-run"
    tool.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = neighbour.scope(10**9)
    assert "--property=MemoryMax=1000000000" in command
    assert "--property=MemorySwapMax=0" in command
    assert "cgroup" in neighbour.protection(10**9)
    neighbour._manager.cache_clear()
    tool.write_text("#!/bin/sh\necho Access denied >&2; exit 1\n")
    assert neighbour.scope(10**9) == []
    assert "cgroup" not in neighbour.protection(10**9)
    neighbour._manager.cache_clear()


def test_limits_of_cgroups_count(tmp_path, monkeypatch):
    free = memory.available_bytes()
    assert free is not None and free > 0
    monkeypatch.setattr(memory, "_left_in_cgroups", lambda: [5])
    assert memory.available_bytes() == 5


def test_gates_without_a_reference():
    gates = [
        {"name": "cosine_min", "op": ">", "threshold": 0.9, "required": True},
        {"name": "speedup", "op": ">=", "threshold": 1, "required": True},
        {"name": "candidate_p50_s", "op": "<", "threshold": 1, "required": False},
    ]
    left = without_reference(gates)
    assert [(gate["name"], gate["required"]) for gate in left] == [
        ("cosine_min", True),
        ("candidate_p50_s", True),
    ]


def test_the_limit_leaves_the_host_a_fifth_and_the_model_room():
    assert neighbour.limit(10**9) == 1_256_000_000
    assert neighbour.limit(10**10) == 12_500_000_000
    assert neighbour.limit(10**9, 10**10) == 8 * 10**9
    assert neighbour.limit(10**9, 10**10, 2) == 4 * 10**9
    assert neighbour.limit(10**9, 100) == 1_256_000_000
