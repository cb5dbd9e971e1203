"""The quantizer: exact, complete in what it says, and careful with what it writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelops.model import tensor_blocks
from modelops.quantizer import int8
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from subprocesses import growth


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    return models.voice(tmp_path / "voice.onnx")


def go(src: Path, dest: Path | None = None, **options) -> dict:
    recipe = Recipe(**options.pop("recipe", {}))
    return quantize(src, dest or src.with_name("out.onnx"), recipe, **options)


def stock(src: Path, dest: Path, per_channel: bool, op_types: list[str]) -> dict[str, np.ndarray]:
    kind = QuantType.QInt8
    quantize_dynamic(
        src, dest, weight_type=kind, per_channel=per_channel, op_types_to_quantize=op_types
    )
    return models.initializers(dest)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    k=st.integers(1, 70),
    n=st.integers(1, 70),
    per_channel=st.booleans(),
    trans_b=st.booleans(),
    threads=st.integers(1, 3),
    scale=st.sampled_from([1.0, 1e-38, 1e30, 0.0]),
    block=st.sampled_from([16, 100, 1 << 20]),
    data=st.data(),
)
def test_initializers_are_those_of_the_stock_quantizer(
    tmp_path, monkeypatch, *, k, n, per_channel, trans_b, threads, scale, block, data
):
    seed = data.draw(st.integers(0, 1000))
    weight = models.random_weight(*((n, k) if trans_b else (k, n)), seed=seed) * np.float32(scale)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="g", transB=int(trans_b))
    src = models.save(
        tmp_path / "m.onnx",
        [node],
        {"w": weight},
        {"x": (TensorProto.FLOAT, [2, k])},
        {"y": (TensorProto.FLOAT, [2, n])},
    )
    expected = stock(src, tmp_path / "stock.onnx", per_channel, ["Gemm", "MatMul"])
    default = tensor_blocks.Weight.blocks
    with monkeypatch.context() as patch:
        patch.setattr(tensor_blocks.Weight, "blocks", lambda self, size=block: default(self, size))
        patch.setattr(int8, "TRANSPOSE_IN_MEMORY", data.draw(st.sampled_from([0, 1 << 20])))
        granularity = "per_channel" if per_channel else "per_tensor"
        go(
            src,
            threads=threads,
            recipe={"granularity": granularity, "forms": {"g": "dynamic_int8"}},
        )
    ours = models.initializers(tmp_path / "out.onnx")
    found = {suffix: array for name, array in ours.items() for suffix in [name.split("_")[-1]]}
    for name, array in expected.items():
        suffix = name.split("_")[-1]
        assert suffix in ("quantized", "scale", "point"), name
        assert array.tobytes() == found[suffix].tobytes(), name


INT8 = dict.fromkeys(("mm1", "mm2", "head", "mm"), "dynamic_int8")


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_result_runs_and_is_close(voice, granularity):
    result = go(voice, recipe={"granularity": granularity, "forms": INT8})
    out = voice.with_name("out.onnx")
    onnx.checker.check_model(str(out))
    codes = np.arange(8).reshape(1, 8) * 7
    reference, candidate = models.run(voice, codes=codes)[0], models.run(out, codes=codes)[0]
    assert models.cosine(reference, candidate) > 0.995
    assert np.abs(reference - candidate).max() < 0.1 * np.abs(reference).max()
    assert result["quantized"] == ["emb", "mm1", "mm2", "head"]
    assert result["kept_fp32"] == []


def test_result_equals_the_stock_quantizer_when_run(tmp_path):
    src = models.matmul(tmp_path / "m.onnx", 64, 48)
    stock(src, tmp_path / "stock.onnx", True, ["MatMul"])
    go(src, recipe={"forms": INT8})
    x = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    ours, theirs = (models.run(tmp_path / f"{n}.onnx", x=x)[0] for n in ("out", "stock"))
    assert np.array_equal(ours, theirs)


def test_onnxruntime_fuses_what_is_written(tmp_path, voice):
    """The standard operators only pay when the session turns them into one kernel."""
    import onnxruntime

    go(voice, recipe={"forms": INT8})
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(
        str(voice.with_name("out.onnx")), options, providers=["CPUExecutionProvider"]
    )
    ops = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert ops.count("DynamicQuantizeMatMul") == 3, ops
    assert "MatMulInteger" not in ops


def test_bytes_do_not_depend_on_threads_or_run(voice, monkeypatch):
    digests = set()
    for threads in (1, 2, 5):
        monkeypatch.setattr(tensor_blocks, "BLOCK_BYTES", 256 * threads)
        result = go(voice, voice.with_name("t.onnx"), threads=threads, force=True)
        digests.add((result["release_id"], voice.with_name("t.onnx.data").read_bytes()))
    assert len(digests) == 1


def test_a_shared_weight_is_stored_once(voice):
    go(voice, recipe={"forms": INT8})
    names = list(models.initializers(voice.with_name("out.onnx")))
    assert [n for n in names if n.startswith("w1")] == [
        "w1_quantized", "w1_quantized_zero_point", "w1_scale",
    ]  # fmt: skip


def test_second_run_changes_nothing_and_force_writes_again(voice):
    assert go(voice)["changed"]
    before = models.tree(voice.parent)
    again = go(voice)
    assert not again["changed"]
    assert models.tree(voice.parent) == before
    assert go(voice, force=True)["changed"]
    assert models.tree(voice.parent) == before


def test_check_mode_writes_nothing_and_names_the_result(voice):
    before = models.tree(voice.parent)
    predicted = go(voice, check_mode=True)
    assert predicted["changed"]
    assert models.tree(voice.parent) == before
    real = go(voice)
    for key in ("release_id", "artifacts", "manifest", "quantized"):
        assert predicted[key] == real[key]
    assert not go(voice, check_mode=True)["changed"]


@pytest.mark.parametrize("name", ["out.onnx", "out.onnx.data"])
def test_one_flipped_byte_is_found_and_repaired(voice, name):
    go(voice)
    before = models.tree(voice.parent)
    damaged = voice.with_name(name)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert go(voice)["changed"]
    assert models.tree(voice.parent) == before


def test_a_pair_that_moved_on_is_found_and_a_damaged_one_is_made_again(voice, tmp_path):
    builder, live = tmp_path / "builder", tmp_path / "live"
    builder.mkdir()
    live.mkdir()
    assert go(voice, builder / "out.onnx", places=[live])["folder"] == str(builder)
    for path in builder.iterdir():
        path.rename(live / path.name)
    for check_mode in (True, False):
        found = go(voice, builder / "out.onnx", places=[live], check_mode=check_mode)
        assert not found["changed"] and found["folder"] == str(live)
        assert found["artifacts"][0]["path"] == str(live / "out.onnx")
    assert list(builder.iterdir()) == []
    data = live / "out.onnx.data"
    data.write_bytes(b"\1" * data.stat().st_size)
    made = go(voice, builder / "out.onnx", places=[live])
    assert made["changed"] and made["folder"] == str(builder)
    assert (builder / "out.onnx").is_file()


def test_an_existing_pair_of_another_source_is_replaced_whole(tmp_path):
    small = models.matmul(tmp_path / "small.onnx", 8, 8)
    large = models.matmul(tmp_path / "large.onnx", 64, 64)
    out = tmp_path / "out.onnx"
    go(large, out)
    go(small, out)
    alone = tmp_path / "alone"
    alone.mkdir()
    go(small, alone / "out.onnx")
    assert (tmp_path / "out.onnx.data").read_bytes() == (alone / "out.onnx.data").read_bytes()


def test_leftovers_of_a_killed_run_are_taken_over(voice):
    voice.with_name(".out.onnx.lock").write_bytes(b"left behind" * 1000)
    voice.with_name(".out.onnx.part").mkdir()
    (voice.with_name(".out.onnx.part") / "out.onnx.data").write_bytes(b"left behind" * 1000)
    go(voice)
    assert sorted(p.name for p in voice.parent.iterdir()) == [
        "out.onnx", "out.onnx.data", "voice.onnx", "voice.onnx.data",
    ]  # fmt: skip


def test_a_lock_that_is_about_to_be_dropped_is_waited_for(voice):
    """As by a child that was not yet a program of its own when its parent was killed."""
    hold = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        " print(flush=True); time.sleep(0.4)"
    )
    lock = voice.with_name(".out.onnx.lock")
    argv = [sys.executable, "-c", hold, str(lock)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert go(voice)["changed"]
    assert not lock.exists()


def test_an_initializer_that_is_also_an_input_is_no_constant(tmp_path):
    src = models.save(
        tmp_path / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")],
        {"w": models.random_weight(8, 8)},
        {"x": (TensorProto.FLOAT, [2, 8]), "w": (TensorProto.FLOAT, [8, 8])},
        {"y": (TensorProto.FLOAT, [2, 8])},
    )
    assert go(src)["quantized"] == []


def test_memory_does_not_hold_the_model(tmp_path):
    """A weight of 64 MB passes through a process that grows by far less."""
    src = models.matmul(tmp_path / "m.onnx", 4096, 4096, np.ones((4096, 4096), np.float32))
    assert growth(src, tmp_path / "o.onnx") < 32 << 20
