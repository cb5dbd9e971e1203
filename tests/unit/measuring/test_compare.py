"""Measuring: real onnxruntime sessions in real child processes, and every way they can end."""

from __future__ import annotations

import math
import os
from pathlib import Path

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.measuring import compare, session_inputs
from modelops.measuring.session import Model, Setup
from modelops.measuring.session_inputs import RequestError, seeded
from onnx import TensorProto as Tp
from onnx import helper

ROOT = Path(__file__).parents[3]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder for temporary files, which every test must leave empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def setup(work: Path, **options) -> Setup:
    return Setup(work_dir=work, timeout_s=60, **options)


def model_of(path: Path, op: str, inputs: dict, outputs: dict, **attributes) -> Path:
    node = helper.make_node(op, list(inputs), list(outputs), **attributes)
    return models.save(path, [node], {}, inputs, outputs, external=False, opset=20)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A matrix product, and the same with slightly different weights."""
    return models.alike(tmp_path)


# The child process


def test_a_benchmark_has_all_its_figures(pair, work):
    figures = compare.benchmark(pair[0], runs=3, warmup=2, setup=setup(work))
    assert len(figures["samples"]) == 3
    assert figures["p50_s"] == sorted(figures["samples"])[1]
    assert figures["p50_s"] <= figures["p95_s"] <= figures["p99_s"] <= max(figures["samples"])
    assert figures["load_s"] > 0 < figures["first_s"]
    assert 0 < figures["rss_model_bytes"] < figures["peak_rss_bytes"]
    assert figures["output_bytes"] == 4 * 32 * 4
    assert figures["finite"] and figures["repeatable"]
    assert figures["providers"] == ["CPUExecutionProvider"]
    assert figures["providers_unused"] == []
    assert figures["versions"]["numpy"] == np.__version__
    assert figures["cpu"]["model"] and figures["cpu"]["cores"] >= 1


def test_the_peak_is_the_childs_own_and_not_inherited(pair, work):
    ballast = np.ones(60_000_000)  # 480 MB in this process
    figures = compare.benchmark(pair[0], runs=1, warmup=0, setup=setup(work))
    assert figures["peak_rss_bytes"] < ballast.nbytes / 2


def test_the_output_is_held_once_and_described(tmp_path, work):
    size = 32_000_000  # floats: 128 MB
    path = model_of(
        tmp_path / "m.onnx", "Neg", {"x": (Tp.FLOAT, [size])}, {"y": (Tp.FLOAT, [size])}
    )
    figures = compare.benchmark(path, runs=2, setup=setup(work))
    assert figures["output_bytes"] == 4 * size
    # the input, the output, and the float64 values that the input was drawn from
    assert figures["rss_model_bytes"] < 4 * 4 * size + 40e6


def test_random_and_non_finite_outputs_are_noticed(tmp_path, work):
    shape = {"x": (Tp.FLOAT, [8])}, {"y": (Tp.FLOAT, [8])}
    noise = model_of(tmp_path / "noise.onnx", "RandomNormalLike", *shape)
    assert not compare.benchmark(noise, runs=2, setup=setup(work))["repeatable"]
    log = model_of(tmp_path / "log.onnx", "Log", *shape)
    assert not compare.benchmark(log, runs=1, setup=setup(work))["finite"]


def test_an_output_of_unknown_or_wrongly_declared_shape(tmp_path, work):
    for number, shape in enumerate(([1, "n"], [1, 3])):
        path = model_of(
            tmp_path / f"{number}.onnx", "NonZero", {"x": (Tp.FLOAT, [8])}, {"y": (Tp.INT64, shape)}
        )
        assert compare.benchmark(path, runs=1, setup=setup(work))["output_bytes"] == 8 * 8


def test_session_options_and_unused_providers(pair, work):
    options = {
        "graph_optimization_level": "ORT_DISABLE_ALL",
        "enable_mem_pattern": False,
        "session.disable_prepacking": "1",
    }
    asked = ["NoSuchExecutionProvider", "CPUExecutionProvider"]
    good = setup(work, threads=1, session_options=options)
    assert compare.benchmark(pair[0], runs=1, setup=good)["finite"]
    for bad in (
        {"speed": 9},
        {"_x": 1},
        {"graph_optimization_level": "FAST"},
        {"add_initializer": 1},
    ):
        with pytest.raises(ModelOpsError, match="session option"):
            compare.benchmark(pair[0], runs=1, setup=setup(work, session_options=bad))
    figures = compare.benchmark(pair[0], runs=1, setup=setup(work, providers=asked))
    assert figures["providers"] == ["CPUExecutionProvider"]
    assert figures["providers_unused"] == ["NoSuchExecutionProvider"]


def test_a_crash_during_a_run_names_the_run(pair, work):
    with setup(work).work_folder() as folder, Model(pair[0], setup(work), folder) as model:
        model.run()
        os.kill(model.pid, 9)
        with pytest.raises(ModelOpsError, match="signal 9 SIGKILL during 'run'"):
            model.run()


def test_a_missing_or_broken_model(tmp_path, work, pair):
    with pytest.raises(ModelOpsError, match="no such model"):
        compare.benchmark(tmp_path / "none.onnx", setup=setup(work))
    Path(f"{pair[0]}.data").unlink()
    with pytest.raises(ModelOpsError, match="load failed") as caught:
        compare.benchmark(pair[0], setup=setup(work))
    assert str(pair[0]) in str(caught.value)


def test_counts_that_make_no_sense(pair, work):
    for options in ({"runs": 0}, {"warmup": -1}):
        with pytest.raises(ModelOpsError, match="Use"):
            compare.benchmark(pair[0], setup=setup(work), **options)


# Inputs


def row(name: str, dtype: str, shape: list) -> dict:
    return {"name": name, "type": "", "dtype": dtype, "shape": shape}


KINDS = sorted(set(session_inputs.DTYPES.values()))
NUMERIC = [kind for kind in KINDS if kind != "str"]


@given(
    dtype=st.sampled_from(KINDS),
    shape=st.lists(st.integers(0, 4) | st.just("n"), max_size=3),
    seed=st.integers(0, 2**31),
)
def test_seeded_inputs_fit_their_descriptions_and_repeat(dtype, shape, seed):
    described = row("x", dtype, shape)
    array = seeded([described], seed, {}, {})["x"]
    assert array.shape == tuple(1 if s == "n" else s for s in shape)
    assert array.dtype == ("object" if dtype == "str" else dtype)
    if array.dtype.kind in "iu":
        assert set(array.ravel().tolist()) <= {0, 1}
    with_another = seeded([row("y", "bool", []), described], seed, {}, {})["x"]
    assert np.array_equal(array, with_another)


def test_ranges_hold_both_ends_and_seeds_differ():
    rows = [row("codes", "int64", [1, 16, 500]), row("wave", "float32", [500])]
    drawn = seeded(rows, 0, {"codes": [0, 3], "wave": [-2, -1]}, {})
    assert set(drawn["codes"].ravel().tolist()) == {0, 1, 2, 3}
    assert -2 <= drawn["wave"].min() < drawn["wave"].max() <= -1
    assert not np.array_equal(drawn["codes"], seeded(rows, 1, {"codes": [0, 3]}, {})["codes"])


@pytest.mark.parametrize(
    ("ranges", "shapes"),
    [
        ({"z": [0, 1]}, {}),
        ({}, {"z": [1]}),
        ({"x": [1, 0]}, {}),
        ({"x": 5}, {}),
        ({"x": ["0", "1"]}, {}),
        ({"x": [0, 300]}, {}),
        ({"flag": [0, 1]}, {}),
        ({}, {"x": [2, 4]}),
        ({}, {"x": [3]}),
        ({}, {"x": [3, -1]}),
        ({}, {"x": [3, 1.5]}),
        ({}, {"x": "34"}),
    ],
)
def test_ranges_and_shapes_that_do_not_fit_are_refused(ranges, shapes):
    rows = [row("x", "uint8", [3, "n"]), row("flag", "bool", [])]
    assert seeded(rows, 0, {"x": [0, 255]}, {"x": [3, 4]})["x"].shape == (3, 4)
    with pytest.raises(RequestError):
        seeded(rows, 0, ranges, shapes)


def test_types_that_numpy_lacks_are_named(tmp_path, work):
    kind = (Tp.BFLOAT16, [1])
    path = model_of(tmp_path / "m.onnx", "Identity", {"x": kind}, {"y": kind})
    with pytest.raises(ModelOpsError, match=r"'x' is of type tensor\(bfloat16\)"):
        compare.benchmark(path, setup=setup(work))


def test_every_supported_type_runs(tmp_path, work):
    kinds = {kind: helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in NUMERIC}
    shapes = {kind: [] if kind == "float32" else [2, 3] for kind in NUMERIC}
    nodes = [helper.make_node("Identity", [f"{kind}_in"], [f"{kind}_out"]) for kind in NUMERIC]
    inputs, outputs = (
        {f"{kind}_{way}": (kinds[kind], shapes[kind]) for kind in NUMERIC} for way in ("in", "out")
    )
    path = models.save(tmp_path / "m.onnx", nodes, {}, inputs, outputs, external=False)
    result = compare.compare(path, path, samples=1, runs=1, setup=setup(work))
    assert {r["output"] for r in result["similarity_rows"]} == set(outputs)
    assert result["similarity"]["cosine_min"] == 1
    assert result["reference"]["repeatable"]
    assert result["speedup"]["high"] == math.inf  # one pair tells nothing of the noise


def test_inputs_from_a_file(tmp_path, work, pair):
    good = np.ones((4, 64), np.float32)
    np.savez(tmp_path / "in.npz", x=good.astype(">f4"))
    given_inputs = setup(work, inputs=tmp_path / "in.npz")
    result = compare.compare(*pair, samples=3, runs=1, setup=given_inputs)
    assert [r["sample"] for r in result["similarity_rows"]] == [0]
    arrays = [
        {"z": good},
        {"x": good, "z": good},
        {"x": good.astype(np.float64)},
        {"x": good[:2]},
        {"x": np.array([None])},
    ]
    for wrong in arrays:
        np.savez(tmp_path / "in.npz", **wrong)
        with pytest.raises(ModelOpsError, match="run failed"):
            compare.benchmark(pair[0], setup=given_inputs)


# Statistics


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=60), st.floats(0, 1))
def test_percentiles_are_numpys(values, share):
    expected = np.percentile(values, share * 100)
    assert compare.percentile(values, share) == pytest.approx(expected, abs=1e-9)


def test_the_interval_of_the_median_is_the_sign_tests():
    # Conover, Practical Nonparametric Statistics: ranks of the 95 % interval of the median
    for n, low in ((2, 1), (5, 1), (6, 1), (9, 2), (10, 2), (15, 4), (20, 6), (25, 8)):
        assert compare.median_interval(range(1, n + 1)) == (low, n + 1 - low)
    assert compare.median_interval([3.0]) == (0, math.inf)


# Comparison


@pytest.mark.parametrize("interleave", [True, False])
def test_a_comparison_is_right(pair, work, interleave):
    result = compare.compare(*pair, samples=2, runs=3, setup=setup(work), interleave=interleave)
    weights = [models.initializers(path)["w"].astype(np.float64) for path in pair]
    for sample, found in enumerate(result["similarity_rows"]):
        x = seeded([row("x", "float32", [4, 64])], sample, {}, {})["x"].astype(np.float64)
        r, c = ((x @ weight).ravel() for weight in weights)
        cosine = r @ c / (np.linalg.norm(r) * np.linalg.norm(c))
        assert found["cosine"] == pytest.approx(cosine, abs=1e-6)
        assert found["mse"] == pytest.approx(np.mean((r - c) ** 2), rel=1e-3)
    speedup = result["speedup"]
    p50 = [result[side]["p50_s"] for side in ("reference", "candidate")]
    assert speedup["value"] == pytest.approx(p50[0] / p50[1])
    assert speedup["low"] <= speedup["value"] <= speedup["high"]
    assert len(result["reference"]["samples"]) == 3
    assert result["candidate"]["repeatable"]
    peaks = [result[side]["peak_rss_bytes"] for side in ("reference", "candidate")]
    assert result["rss_ratio"] == peaks[1] / peaks[0]
    flat = compare.figures(result)
    assert flat["candidate_p50_s"] == p50[1]
    assert flat["candidate_finite"] is True
    assert flat["speedup"] == speedup


@pytest.mark.parametrize("interleave", [True, False])
def test_noise_is_measured_again_within_the_limit(pair, work, interleave):
    seen = []

    def settled(so_far) -> bool:
        seen.append(len(so_far["reference"]["samples"]))
        return False

    options = {"samples": 1, "runs": 2, "interleave": interleave, "setup": setup(work)}
    result = compare.compare(*pair, more_rounds=2, settled=settled, **options)
    assert seen == [2, 4]
    assert len(result["reference"]["samples"]) == len(result["candidate"]["samples"]) == 8


def test_runs_alternate_their_order(pair, work, monkeypatch):
    order = []
    run = Model.run

    def noting(self, *args, **options):
        if options.get("timed"):
            order.append(self.path.stem)
        return run(self, *args, **options)

    monkeypatch.setattr(Model, "run", noting)
    compare.compare(*pair, samples=1, runs=4, setup=setup(work))
    assert order == ["fp32", "int8", "int8", "fp32"] * 2


@pytest.mark.parametrize("interleave", [True, False])
def test_models_that_do_not_belong_together_are_refused(pair, tmp_path, work, interleave):
    shapes = {"x": (Tp.FLOAT, [4, 64])}, {"y": (Tp.FLOAT, [4, 64])}
    others = {
        "its inputs are": model_of(tmp_path / "1.onnx", "Neg", {"z": shapes[0]["x"]}, shapes[1]),
        "its outputs are": model_of(tmp_path / "2.onnx", "Neg", shapes[0], {"z": shapes[1]["y"]}),
        "has the shape": model_of(tmp_path / "3.onnx", "Neg", *shapes),
    }
    for words, other in others.items():
        with pytest.raises(ModelOpsError, match=words):
            compare.compare(pair[0], other, setup=setup(work), interleave=interleave)
