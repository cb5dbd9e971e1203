"""Small models with one weight each, in every way that a node can hold one."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
W = models.random_weight


def node(op: str, *inputs: str, outputs: int = 1, **attributes) -> onnx.NodeProto:
    names = ["y", "y2", "y3"][:outputs]
    return helper.make_node(op, list(inputs), names, name="n", **attributes)


def sorted_gates(weight: str, result: str) -> list[onnx.NodeProto]:
    """Sort [4 x 24, n] from the gates i f c o of PyTorch to the i o f c of ONNX, as [1, 96, n]."""
    gates = [f"{result}_{gate}" for gate in (0, 3, 1, 2)]
    return [
        *(
            helper.make_node("Slice", [weight, f"at{g[-1]}", f"at{int(g[-1]) + 1}", "axis"], [g])
            for g in gates
        ),
        helper.make_node("Concat", gates, [f"{result}_sorted"], axis=0),
        helper.make_node("Unsqueeze", [f"{result}_sorted", "axis"], [result]),
    ]


def normalized(weight: str) -> list[onnx.NodeProto]:
    """g * w / |w| as exporters write the weight normalization of a convolution."""
    return [
        helper.make_node("ReduceL2", [weight], ["norm"], axes=[1, 2]),
        helper.make_node("Div", [weight, "norm"], ["direction"]),
        helper.make_node("Mul", ["direction", "g"], ["wn"]),
    ]


BOUNDS = {f"at{gate}": np.array([24 * gate], np.int64) for gate in range(5)}
BOUNDS["axis"] = np.array([0], np.int64)


# name: (nodes, weights, shape of the input x, expected form, word of the reason)
CASES = {
    "large matrix": (
        [node("MatMul", "x", "w")], {"w": W(600, 520)}, [4, 600], "dynamic_int8", "large",
    ),
    "small matrix": ([node("MatMul", "x", "w")], {"w": W(64, 32)}, [4, 64], "weight_int8", "small"),
    "tiny matrix": ([node("MatMul", "x", "w")], {"w": W(8, 8)}, [4, 8], "fp32", "too small"),
    "left operand": ([node("MatMul", "w", "x")], {"w": W(40, 60)}, [60, 3], "weight_int8", "left"),
    "stack": ([node("MatMul", "x", "w")], {"w": W(2, 34, 33)}, [2, 4, 34], "weight_int8", "stack"),
    "gemm": (
        [node("Gemm", "x", "w", "b", alpha=0.5, beta=2.0)],
        {"w": W(600, 520), "b": W(520)}, [4, 600], "dynamic_int8", "large",
    ),
    "gemm transB": (
        [node("Gemm", "x", "w", "b", transB=1)],
        {"w": W(520, 600), "b": W(520)}, [4, 600], "dynamic_int8", "large",
    ),
    "gemm transA": (
        [node("Gemm", "x", "w", transA=1, alpha=3.0)], {"w": W(600, 520)}, [600, 4],
        "dynamic_int8", "large",
    ),
    "gemm left operand": (
        [node("Gemm", "w", "x", transA=1)], {"w": W(40, 60)}, [40, 3], "weight_int8", "left",
    ),
    "small gemm transB": (
        [node("Gemm", "x", "w", transB=1)], {"w": W(40, 60)}, [4, 60], "weight_int8", "small",
    ),
    "conv": (
        [node("Conv", "x", "w", "b")], {"w": W(16, 8, 9), "b": W(16)}, [1, 8, 40],
        "weight_int8", "too small",
    ),
    "conv of single values": (
        [node("Conv", "x", "w", group=2000)], {"w": W(2000, 1, 1)}, [1, 2000, 3], "fp32",
        "so few values",
    ),
    "embedding of single values": (
        [
            helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
            node("Gather", "w", "i"),
        ],
        {"w": W(2000, 1)}, [3], "fp32", "so few values",
    ),
    "conv 2d": (
        [node("Conv", "x", "w")], {"w": W(16, 8, 3, 3)}, [1, 8, 9, 9], "weight_int8", "slower",
    ),
    "conv transpose": (
        [node("ConvTranspose", "x", "w")], {"w": W(16, 8, 9)}, [1, 16, 40], "weight_int8", "slower",
    ),
    "lstm": (
        [node("LSTM", "x", "w", "r", outputs=3, hidden_size=24)],
        {"w": W(1, 96, 20), "r": W(1, 96, 24)}, [5, 1, 20], "weight_int8", "too small",
    ),
    "gru": (
        [node("GRU", "x", "w", "r", outputs=2, hidden_size=24)],
        {"w": W(1, 72, 20), "r": W(1, 72, 24)}, [5, 1, 20], "weight_int8", "slower",
    ),
    "lstm with sorted gates": (
        [
            *sorted_gates("w", "ws"), *sorted_gates("r", "rs"),
            node("LSTM", "x", "ws", "rs", outputs=3, hidden_size=24),
        ],
        {"w": W(96, 20), "r": W(96, 24), **BOUNDS}, [5, 1, 20], "weight_int8", "made from stored",
    ),
    "half of a fused matrix": (
        [
            helper.make_node("Identity", ["w"], ["i"]),
            helper.make_node("Split", ["i"], ["a", "b"], axis=0),
            node("Gemm", "x", "b", transB=1),
        ],
        {"w": W(40, 60)}, [4, 60], "weight_int8", "made from stored",
    ),
    "part of a stack": (
        [
            helper.make_node("Split", ["w"], ["a", "b"], axis=0),
            helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 1]),
            node("MatMul", "x", "t"),
        ],
        {"w": W(4, 33, 34)}, [2, 4, 34], "weight_int8", "made from stored",
    ),
    "weight normalization": (
        [*normalized("w"), node("Conv", "x", "wn")],
        {"w": W(16, 8, 9), "g": W(16, 1, 1)}, [1, 8, 40],
        "weight_int8", "made from stored",
    ),
    "weight normalization in half precision": (
        [
            *normalized("w"), helper.make_node("Cast", ["wn"], ["c"], to=FLOAT),
            node("Conv", "x", "c"),
        ],
        {"w": W(16, 8, 9).astype(np.float16), "g": W(16, 1, 1).astype(np.float16)}, [1, 8, 40],
        "weight_int8", "made from stored",
    ),
    "weight standardization": (
        [
            helper.make_node("ReduceMean", ["w"], ["m"], axes=[1, 2, 3]),
            helper.make_node("Sub", ["w", "m"], ["c"]),
            helper.make_node("Mul", ["c", "c"], ["c2"]),
            helper.make_node("ReduceMean", ["c2"], ["v"], axes=[1, 2, 3]),
            helper.make_node("Add", ["v", "e"], ["ve"]),
            helper.make_node("Sqrt", ["ve"], ["s"]),
            helper.make_node("Reciprocal", ["s"], ["i"]),
            helper.make_node("Mul", ["c", "i"], ["ws"]),
            node("Conv", "x", "ws"),
        ],
        {"w": W(16, 8, 3, 3), "e": np.array([1e-5], np.float32)}, [1, 8, 9, 9],
        "weight_int8", "made from stored",
    ),
    "einsum": (
        [node("Einsum", "x", "w", equation="bi,eij->bej")], {"w": W(3, 60, 40)}, [4, 60],
        "weight_int8", "Einsum has no",
    ),
    "einsum of rows": (
        [node("Einsum", "x", "w", equation="bi,oi->bo")], {"w": W(40, 60)}, [4, 60],
        "weight_int8", "Einsum has no",
    ),
    "attention": (
        [node("Attention", "x", "w", "b", domain="com.microsoft", num_heads=2)],
        {"w": W(32, 96), "b": W(96)}, [1, 5, 32], "weight_int8", "slower",
    ),
    "behind transpose": (
        [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", "x", "t")],
        {"w": W(520, 600)}, [4, 600], "dynamic_int8", "large",
    ),
    "small behind transpose": (
        [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", "x", "t")],
        {"w": W(30, 60)}, [4, 60], "weight_int8", "small",
    ),
    "behind reshape and identity": (
        [
            helper.make_node("Identity", ["w"], ["i"]),
            helper.make_node("Reshape", ["i", "shape"], ["r"]),
            node("MatMul", "x", "r"),
        ],
        {"w": W(300, 1040), "shape": np.array([600, -1], np.int64)}, [4, 600],
        "dynamic_int8", "large",
    ),
    "behind a shape of plain numbers": (
        [
            helper.make_node("Constant", [], ["shape"], value_ints=[600, -1]),
            helper.make_node("Reshape", ["w", "shape"], ["r"]),
            node("MatMul", "x", "r"),
        ],
        {"w": W(300, 1040)}, [4, 600], "dynamic_int8", "large",
    ),
    "stored in half precision": (
        [
            helper.make_node("Cast", ["w"], ["c"], to=FLOAT),
            helper.make_node("Transpose", ["c"], ["t"], perm=[1, 0]),
            node("Gemm", "x", "t"),
        ],
        {"w": W(520, 600).astype(np.float16)}, [4, 600], "dynamic_int8", "large",
    ),
    "constant node": (
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(W(600, 520))),
            node("MatMul", "x", "c"),
        ],
        {}, [4, 600], "dynamic_int8", "large",
    ),
    "computed": (
        [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), node("MatMul", "x", "t")],
        {}, [4, 60], "fp32", "computed",
    ),
    "other operator": ([node("Add", "x", "w")], {"w": W(40, 60)}, [40, 60], "fp32", "Add has no"),
}  # fmt: skip


def build(path: Path, case: str, external: bool = True) -> Path:
    nodes, weights, shape, *_ = CASES[case]
    outputs = dict.fromkeys(nodes[-1].output, (FLOAT, None))
    return models.save(path, nodes, weights, {"x": (FLOAT, shape)}, outputs, external)


def decisions(result: dict) -> list[dict]:
    return result["manifest"]["nodes"]
