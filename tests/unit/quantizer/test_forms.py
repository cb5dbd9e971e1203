"""Every operator with weights: its form, the reason, and that the result is still right."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from form_cases import BOUNDS, CASES, FLOAT, W, build, decisions, node, sorted_gates
from modelops.model.reader import read_model
from modelops.model.walk import all_graphs
from modelops.model.weights import DERIVING
from modelops.quantizer.operators import WEIGHTS
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper, numpy_helper


def compare(src: Path, out: Path, x: np.ndarray, least: float = 0.99) -> None:
    for a, b in zip(models.run(src, x=x), models.run(out, x=x), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert models.cosine(a, b) > least
        assert np.abs(a - b).max() <= 0.3 * np.abs(a).max()


@pytest.mark.parametrize("external", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_form_and_result(tmp_path, case, external):
    _, weights, shape, form, word = CASES[case]
    src, out = build(tmp_path / "m.onnx", case, external), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    (decision,) = decisions(result)
    assert decision["form"] == form
    assert word in decision["reason"]
    onnx.checker.check_model(str(out))
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    compare(src, out, x)
    if form != "fp32":
        fp32 = sum(w.nbytes for w in weights.values() if w.ndim > 1)
        assert out.with_name("out.onnx.data").stat().st_size < 0.32 * max(fp32, 1 << 20)


@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][3] == "dynamic_int8"])
@pytest.mark.parametrize("form", ["blockwise_int8", "weight_int8", "fp32"])
def test_a_node_can_be_moved_to_another_form(tmp_path, case, form):
    shape = CASES[case][2]
    src, out = build(tmp_path / "m.onnx", case), tmp_path / "out.onnx"
    result = quantize(src, out, Recipe(forms={"n": form}))
    assert [d["form"] for d in decisions(result)] == [form]
    onnx.checker.check_model(str(out), full_check=False)
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    compare(src, out, x, least=0.9995)


@pytest.mark.parametrize("k", [600, 610, 1000])
def test_blocks_need_no_multiple_of_their_size(tmp_path, k, monkeypatch):
    src, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    models.matmul(src, k, 530)
    quantize(src, out, Recipe(forms={"mm": "blockwise_int8"}))
    x = np.random.default_rng(3).standard_normal((4, k)).astype(np.float32)
    compare(src, out, x, least=0.9995)
    first = out.with_name("out.onnx.data").read_bytes()
    monkeypatch.setattr("modelops.quantizer.int8.TRANSPOSE_IN_MEMORY", 4096)
    assert not quantize(src, out, Recipe(forms={"mm": "blockwise_int8"}))["changed"]
    assert out.with_name("out.onnx.data").read_bytes() == first


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", ["large matrix", "gemm", "small matrix", "conv"])
def test_half_precision(tmp_path, dtype, case):
    """The model works in half precision, is quantized from it, and the result loads and runs."""
    import ml_dtypes

    kind = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype]
    nodes, weights, shape, form, _ = CASES[case]
    halves = {n: w.astype(getattr(ml_dtypes, dtype, np.float16)) for n, w in weights.items()}
    around = [
        helper.make_node("Cast", ["x"], ["xh"], to=kind),
        *[helper.make_node(n.op_type, ["xh", *n.input[1:]], ["yh"], name=n.name) for n in nodes],
        helper.make_node("Cast", ["yh"], ["y"], to=FLOAT),
    ]
    for made, given in zip(around[1:-1], nodes, strict=True):
        made.attribute.extend(given.attribute)
    src = models.save(
        tmp_path / "h.onnx", around, halves, {"x": (FLOAT, shape)}, {"y": (FLOAT, None)}
    )
    reference = build(tmp_path / "m.onnx", case)
    out = tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    assert [d["form"] for d in decisions(result)] == [form]
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    if dtype == "float16" or form == "dynamic_int8":  # the CPU has no BF16 Conv and MatMul
        assert models.cosine(models.run(reference, x=x)[0], models.run(out, x=x)[0]) > 0.995


def test_a_tied_weight_is_stored_once(tmp_path):
    """One tensor as embedding and as output head: one copy, turned by the session at load."""
    import onnxruntime

    nodes = [
        helper.make_node("Gather", ["w", "i"], ["e"], name="emb"),
        helper.make_node("Gather", ["w", "j"], ["e2"], name="emb2"),
        helper.make_node("Add", ["e", "e2"], ["s"], name="add"),
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["s", "t"], ["a"], name="head"),
        helper.make_node("MatMul", ["e", "t"], ["b"], name="head2"),
    ]
    i64 = TensorProto.INT64
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(700, 400)},
        {"i": (i64, [3]), "j": (i64, [3])}, {"a": (FLOAT, None), "b": (FLOAT, None)},
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    quantize(src, out, Recipe())
    int8 = [a for a in models.initializers(out).values() if a.dtype == np.int8]
    assert sorted(a.size for a in int8) == [700, 700 * 400]
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
    ops = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert ops.count("DynamicQuantizeMatMul") == 2 and "Transpose" not in ops
    codes = {"i": np.array([1, 2, 3]), "j": np.array([-1, 0, 699])}
    for a, b in zip(models.run(src, **codes), models.run(out, **codes), strict=True):
        assert models.cosine(a, b) > 0.999


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_a_head_that_stands_before_its_embedding(tmp_path, granularity):
    """One copy too, where both have the same scales."""
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["a"], name="head"),
        helper.make_node("Gather", ["w", "i"], ["e"], name="emb"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(700, 400)},
        {"x": (FLOAT, [3, 400]), "i": (TensorProto.INT64, [3])},
        {"a": (FLOAT, [3, 700]), "e": (FLOAT, [3, 400])},
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    result = quantize(src, out, Recipe(granularity=granularity))
    int8 = [a.size for a in models.initializers(out).values() if a.dtype == np.int8 and a.size > 1]
    copies = 2 if granularity == "per_tensor" else 1
    assert sorted(int8) == ([700] * (2 - copies) + [700 * 400] * copies)
    assert sorted(result["quantized"]) == ["emb", "head"]
    x = np.random.default_rng(0).standard_normal((3, 400)).astype(np.float32)
    given = {"x": x, "i": np.array([1, 0, 699])}
    for a, b in zip(models.run(src, **given), models.run(out, **given), strict=True):
        assert models.cosine(a, b) > 0.999
    assert not quantize(src, out, Recipe(granularity=granularity))["changed"]


def test_subgraphs(tmp_path):
    """Weights inside If branches, and of the outer graph used inside: quantized, one copy each."""

    def branch(name: str, inner: np.ndarray) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["x", "outer"], ["h"], name=f"{name}_outer"),
            helper.make_node("MatMul", ["h", "w"], [f"{name}_y"], name=f"{name}_inner"),
        ]
        output = helper.make_tensor_value_info(f"{name}_y", FLOAT, [4, 520])
        return helper.make_graph(nodes, name, [], [output], [numpy_helper.from_array(inner, "w")])

    branches = {
        "then_branch": branch("a", W(600, 520, seed=1)),
        "else_branch": branch("b", W(600, 520)),
    }
    src = models.save(
        tmp_path / "m.onnx", [helper.make_node("If", ["c"], ["y"], name="if", **branches)],
        {"outer": W(600, 600)}, {"x": (FLOAT, [4, 600]), "c": (TensorProto.BOOL, [])},
        {"y": (FLOAT, [4, 520])}, external=False,
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    assert [d["form"] for d in decisions(result)] == ["dynamic_int8"] * 4
    x = np.random.default_rng(3).standard_normal((4, 600)).astype(np.float32)
    for c in (True, False):
        a, b = (models.run(p, x=x, c=np.array(c))[0] for p in (src, out))
        assert models.cosine(a, b) > 0.999
    assert out.with_name("out.onnx.data").stat().st_size < 1.05 * (600 * 600 + 2 * 600 * 520)


@pytest.mark.parametrize("how", ["as it came", "copied", "read after", "changed", "hidden"])
def test_weights_that_a_loop_carries_along(tmp_path, how):
    """As tf2onnx writes TensorFlow's loops: a value of the loop that never changes."""
    nodes = [
        helper.make_node("MatMul", ["h", "k"], ["p"], name="in_loop"),
        helper.make_node("Tanh", ["p"], ["w" if how == "hidden" else "t"]),
        helper.make_node("Identity", ["w" if how == "hidden" else "t"], ["h2"]),
        helper.make_node("Identity", ["c"], ["c2"]),
    ]
    last = {"copied": "k2", "changed": "k2"}.get(how, "k")
    if how == "copied":
        nodes.append(helper.make_node("Identity", ["k"], ["k2"]))
    if how == "changed":
        nodes.append(helper.make_node("Neg", ["k"], ["k2"]))
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        nodes, "body",
        [
            value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []),
            value("h", FLOAT, None), value("k", FLOAT, None),
        ],
        [value("c2", TensorProto.BOOL, []), value("h2", FLOAT, None), value(last, FLOAT, None)],
    )  # fmt: skip
    outputs = ["y", "kept"] if how == "read after" else ["y"]
    src = models.save(
        tmp_path / "m.onnx",
        [
            helper.make_node("Loop", ["n", "", "x", "w"], ["y", "kept"], name="loop", body=body),
            helper.make_node("MatMul", ["x", "w"], ["z"], name="outside"),
        ],
        {"n": np.array(3, np.int64), "w": W(520, 520) * np.float32(0.05)}, {"x": (FLOAT, [4, 520])},
        dict.fromkeys([*outputs, "z"], (FLOAT, None)),
    )  # fmt: skip
    out = tmp_path / "out.onnx"
    result = quantize(src, out, Recipe())
    if how != "hidden":  # which onnx.checker and onnxruntime refuse, in the source too
        onnx.checker.check_model(str(out))
        x = np.random.default_rng(3).standard_normal((4, 520)).astype(np.float32)
        for a, b in zip(models.run(src, x=x), models.run(out, x=x), strict=True):
            assert models.cosine(a, b) > 0.999
    form = {d["node"]: d["form"] for d in decisions(result)}
    whole = 520 * 520
    size = out.with_name("out.onnx.data").stat().st_size
    if how in ("as it came", "copied"):
        assert form == {"in_loop": "dynamic_int8", "outside": "dynamic_int8"}
        assert size < 1.05 * whole
    else:  # the loop, or who reads it, needs the FP32 values: INT8 would be added
        assert form["outside"] == "fp32" and 4 * whole <= size < 4.01 * whole


def test_an_old_opset_has_no_dynamic_form(tmp_path):
    src = models.matmul(tmp_path / "m.onnx", 600, 520, opset=10)
    (decision,) = decisions(quantize(src, tmp_path / "out.onnx", Recipe()))
    assert decision["form"] == "weight_int8" and "opset 10" in decision["reason"]
    x = np.random.default_rng(3).standard_normal((4, 600)).astype(np.float32)
    compare(src, tmp_path / "out.onnx", x)


def test_onnxruntime_unpacks_weight_only_at_load(tmp_path):
    """What is left at run time is the FP32 operator alone."""
    import onnxruntime

    cases = ("conv", "lstm", "lstm with sorted gates", "small matrix", "stack", "einsum")
    cases += ("small behind transpose", "half of a fused matrix", "part of a stack")
    for case in (*cases, "weight normalization", "weight standardization"):
        out = tmp_path / "out.onnx"
        quantize(build(tmp_path / "m.onnx", case), out, Recipe(), force=True)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
        ops = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
        assert not DERIVING & set(ops), (case, ops)


def test_a_lattice_of_movers_ends(tmp_path):
    """Each node reads both of the layer above: 2 ** 40 ways from the weights to the product."""
    nodes = [helper.make_node("Identity", ["w"], [f"{side}0"]) for side in "ab"]
    for layer in range(40):
        above = [f"a{layer}", f"b{layer}"]
        for side in "ab":
            name = f"{side}{layer + 1}"
            nodes.append(helper.make_node("Concat", above, [f"{name}_wide"], axis=1))
            nodes.append(helper.make_node("Split", [f"{name}_wide"], [name, f"{name}_"], axis=1))
    nodes.append(node("MatMul", "x", "a40"))
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(64, 32)}, {"x": (FLOAT, [4, 64])}, {"y": (FLOAT, None)}
    )
    result = quantize(src, tmp_path / "out.onnx", Recipe())
    (product,) = [d for d in decisions(result) if d["op"] == "MatMul"]
    assert product["form"] == "fp32" and "computed" in product["reason"]


def test_nothing_is_divided_by_rounded_values(tmp_path):
    """A small one would have become 0."""
    nodes = [
        helper.make_node("Div", ["w", "v"], ["q"], name="div"),
        node("MatMul", "x", "q"),
    ]
    divisors = W(60, 40)
    divisors[0, 0] = 1e-6
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(60, 40), "v": divisors}, {"x": (FLOAT, [4, 60])},
        {"y": (FLOAT, None)},
    )  # fmt: skip
    result = quantize(src, tmp_path / "out.onnx", Recipe())
    assert [d["form"] for d in decisions(result)] == ["fp32", "fp32"]
    x = np.random.default_rng(3).standard_normal((4, 60)).astype(np.float32)
    exact, same = models.run(src, x=x), models.run(tmp_path / "out.onnx", x=x)
    assert np.array_equal(exact[0], same[0])


def test_a_moved_weight_that_others_read_stays_for_them(tmp_path):
    """The LSTM reads INT8; the sum reads the FP32 values, and the list says so."""
    nodes = [
        *sorted_gates("w", "ws"),
        node("LSTM", "x", "ws", "r", outputs=1, hidden_size=24),
        helper.make_node("Add", ["ws", "ws"], ["z"], name="sum"),
    ]
    src = models.save(
        tmp_path / "m.onnx", nodes, {"w": W(96, 20), "r": W(1, 96, 24), **BOUNDS},
        {"x": (FLOAT, [5, 1, 20])}, {"y": (FLOAT, None), "z": (FLOAT, None)},
    )  # fmt: skip
    result = quantize(src, tmp_path / "out.onnx", Recipe())
    kept = {entry["op"] for entry in result["kept_fp32"]}
    assert kept == {"Slice", "Concat", "Unsqueeze", "Add"}
    (lstm,) = [d for d in decisions(result) if d["op"] == "LSTM"]
    assert lstm["form"] == "weight_int8" and lstm["weight"] == "w, r"
    x = np.random.default_rng(3).standard_normal((5, 1, 20)).astype(np.float32)
    (a, exact), (b, same) = models.run(src, x=x), models.run(tmp_path / "out.onnx", x=x)
    assert models.cosine(a, b) > 0.99 and np.array_equal(exact, same)


def test_silero_vad(tmp_path):
    """The real, public voice model: If subgraphs, LSTM and Conv."""
    from importlib.util import find_spec

    package = Path(find_spec("silero_vad").submodule_search_locations[0])
    src, out = package / "data" / "silero_vad.onnx", tmp_path / "vad.onnx"
    result = quantize(src, out, Recipe())
    onnx.checker.check_model(str(out))
    inputs = {
        "input": 0.1 * np.sin(np.arange(512, dtype=np.float32) / 9).reshape(1, 512),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    for a, b in zip(models.run(src, **inputs), models.run(out, **inputs), strict=True):
        assert np.isfinite(b).all()
        assert models.cosine(a, b) > 0.98
    ops = [n.op_type for g in all_graphs(read_model(src).graph) for n in g.node]
    listed = [d["op"] for d in decisions(result)]
    for op in WEIGHTS:
        assert listed.count(op) == ops.count(op)
    assert listed.count("LSTM") > 0 and listed.count("Conv") > 4
    assert all(entry["reason"] for entry in result["kept_fp32"])
    assert sum(a["size"] for a in result["artifacts"]) <= 0.4 * src.stat().st_size
