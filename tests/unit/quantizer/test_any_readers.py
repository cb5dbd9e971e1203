"""Any mix of nodes that read the same weights, in any graphs: right, small, and unpacked once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import models
import numpy as np
import onnx
from examples import examples
from form_cases import FLOAT, W
from hypothesis import given, settings
from hypothesis import strategies as st
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper
from test_shared_weights import makers

WIDTH = 40
# How a node may read a weight: nodes that make of x [4, width] a value of the same shape.
READERS = {
    "product": "MatMul x w",
    "turned": "Transpose w > MatMul x t",
    "gemm": "Gemm x w",
    "rows": "Gather w i > Mul x g",
    "sum": "ReduceSum w > Mul x s",
    "shown": "Identity w > MatMul x d",
}


def reader(kind: str, weight: str, x: str, y: str) -> list[onnx.NodeProto]:
    steps, made, nodes = READERS[kind].split(" > "), weight, []
    for index, step in enumerate(steps):
        op, *operands = step.split()
        last = index == len(steps) - 1
        names = {"x": x, "w": weight, "i": "i"}
        output = y if last else f"{y}_made"
        given = [names.get(name, made) for name in operands]
        more = {"keepdims": 0} if op == "ReduceSum" else {}
        nodes.append(helper.make_node(op, given, [output], name=f"{kind}_{output}", **more))
        made = output
    return nodes


# A program: readers one behind the other, some of them in branches, which may hold branches.
READ = st.tuples(st.sampled_from(sorted(READERS)), st.sampled_from(["u", "v"]))
PROGRAM = st.recursive(
    st.lists(READ, min_size=1, max_size=3),
    lambda inner: st.lists(READ | st.tuples(inner, inner), min_size=1, max_size=3),
    max_leaves=6,
)


class Builder:
    """Makes the nodes of a program, with names that are told apart."""

    def __init__(self) -> None:
        self.count = 0

    def nodes(self, program: list, x: str) -> list[onnx.NodeProto]:
        made = []
        for step in program:
            self.count += 1
            y = f"y{self.count}"
            if isinstance(step[0], str):
                made += reader(*step, x, y)
            else:
                branches = [self._branch(inner, x) for inner in step]
                made.append(
                    helper.make_node(
                        "If", ["c"], [y], name=f"if_{y}",
                        then_branch=branches[0], else_branch=branches[1],
                    )
                )  # fmt: skip
            x = y
        return made

    def _branch(self, program: list, x: str) -> onnx.GraphProto:
        nodes = self.nodes(program, x)
        output = helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)
        return helper.make_graph(nodes, output.name, [], [output])


@settings(max_examples=examples(40))
@given(
    PROGRAM, st.sets(st.sampled_from(["u", "v"])), st.sampled_from(["per_channel", "per_tensor"])
)
def test_any_readers(program, given_out, granularity):
    nodes = Builder().nodes(program, "x")
    with tempfile.TemporaryDirectory() as folder:
        src, out = Path(folder) / "m.onnx", Path(folder) / "out.onnx"
        models.save(
            src, nodes, {n: W(WIDTH, WIDTH, seed=i, outlier=0) for i, n in enumerate("uv")},
            {"x": (FLOAT, [4, WIDTH]), "i": (TensorProto.INT64, [4]), "c": (TensorProto.BOOL, [])},
            dict.fromkeys([nodes[-1].output[0], *sorted(given_out)], (FLOAT, None)),
        )  # fmt: skip
        before = {p.name: p.stat().st_size for p in src.parent.iterdir()}
        quantize(src, out, Recipe(granularity=granularity))
        model = onnx.load(out)
        assert all(count == 1 for count in makers(model).values())
        assert out.with_name("out.onnx.data").stat().st_size <= before["m.onnx.data"]
        for tensor in model.graph.initializer:  # a weight is there in one type only
            twin = f"{tensor.name}_quantized"
            assert all(t.name != twin for t in model.graph.initializer), tensor.name
        assert not quantize(src, out, Recipe(granularity=granularity))["changed"]
        x = np.random.default_rng(3).standard_normal((4, WIDTH)).astype(np.float32)
        for c in (True, False):
            feeds = {"x": x, "i": np.arange(4), "c": np.array(c)}
            for a, b in zip(models.run(src, **feeds), models.run(out, **feeds), strict=True):
                assert models.cosine(a, b) > 0.98 or np.abs(a - b).max() < 1e-3
