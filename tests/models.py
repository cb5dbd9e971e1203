"""Small real ONNX models for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def random_weight(*shape: int, seed: int = 0, outlier: float = 8.0) -> np.ndarray:
    """A float32 weight with a spread between channels, like a trained one."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(shape).astype(np.float32)
    weight *= np.float32(shape[0] ** -0.5)
    weight *= np.exp(0.5 * rng.standard_normal(shape[-1])).astype(np.float32)
    if outlier and shape[-1] > 1:
        weight[..., rng.integers(shape[-1])] *= outlier
    return weight


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, tuple[int, list[int | str]]],
    external: bool = True,
    opset: int = 17,
) -> Path:
    """Write a model, its weights in `NAME.onnx.data` unless `external` is false.

    An output whose shape is None gets the inferred one, or three unknown dimensions.
    """
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    domains = {"": opset, **{node.domain: 1 for node in nodes if node.domain}}
    opsets = [helper.make_opsetid(*pair) for pair in domains.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    inferred = onnx.shape_inference.infer_shapes(model).graph.output
    for output, found in zip(model.graph.output, inferred, strict=True):
        if found.type.tensor_type.HasField("shape"):
            output.CopyFrom(found)
        elif outputs[output.name][1] is None:
            kind = outputs[output.name][0]
            output.CopyFrom(helper.make_tensor_value_info(output.name, kind, ["a", "b", "c"]))
    onnx.save_model(
        model,
        path,
        save_as_external_data=external,
        location=f"{path.name}.data",
        size_threshold=64,
    )
    return path


def matmul(path: Path, k: int = 32, n: int = 24, weight: np.ndarray | None = None, **kw) -> Path:
    """x [4, k] times w [k, n]."""
    weight = random_weight(k, n) if weight is None else weight
    return save(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")],
        {"w": weight},
        {"x": (FLOAT, [4, k])},
        {"y": (FLOAT, [4, n])},
        **kw,
    )


def voice(path: Path, steps: int = 8, width: int = 32, rows: int = 64, seed: int = 0) -> Path:
    """A small look-alike: embedding, shared MatMul weight, Gemm with transB, alpha, beta, bias."""
    weights = {
        "emb": random_weight(rows, width, seed=seed, outlier=0),
        "w1": random_weight(width, width, seed=seed + 1),
        "w2": random_weight(16, width, seed=seed + 2),
        "b2": random_weight(16, seed=seed + 3, outlier=0),
        "norm": np.ones(width, np.float32),
        "shape": np.array([-1, width], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["emb", "codes"], ["e"], name="emb", axis=0),
        helper.make_node("MatMul", ["e", "w1"], ["h1"], name="mm1"),
        helper.make_node("Tanh", ["h1"], ["t1"], name="tanh"),
        helper.make_node("MatMul", ["t1", "w1"], ["h2"], name="mm2"),
        helper.make_node("Mul", ["h2", "norm"], ["h3"], name="norm"),
        helper.make_node("Reshape", ["h3", "shape"], ["h4"], name="flat"),
        helper.make_node(
            "Gemm", ["h4", "w2", "b2"], ["mel"], name="head", transB=1, alpha=0.5, beta=2.0
        ),
    ]
    return save(
        path,
        nodes,
        weights,
        {"codes": (TensorProto.INT64, [1, steps])},
        {"mel": (FLOAT, [steps, 16])},
    )


def run(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    """Run a model with onnxruntime in a default session."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def initializers(path: Path) -> dict[str, np.ndarray]:
    model = onnx.load(path)
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def real_shapes(path: Path) -> Path:
    """A graph with the real model's input and output, 2.01 GB, and next to no weights."""
    nodes = [
        helper.make_node("Gather", ["table", "audio_codes"], ["e"], name="embedding"),
        helper.make_node("Reshape", ["e", "shape"], ["x"], name="flat"),
        helper.make_node("MatMul", ["x", "w"], ["mel_features"], name="head"),
    ]
    weights = {
        "table": random_weight(1024, 1),
        "shape": np.array([1, 2048, 1], np.int64),
        "w": random_weight(1, 245760),
    }
    return save(
        path, nodes, weights, {"audio_codes": (TensorProto.INT64, [1, 16, 128])},
        {"mel_features": (TensorProto.FLOAT, [1, 2048, 245760])},
    )  # fmt: skip


def alike(folder: Path) -> tuple[Path, Path]:
    """A matrix product, and the same with slightly different weights."""
    weight = random_weight(64, 32)
    other = weight + np.float32(0.01) * random_weight(64, 32, seed=1)
    paths = folder / "fp32.onnx", folder / "int8.onnx"
    for path, values in zip(paths, (weight, other), strict=True):
        matmul(path, 64, 32, values)
    return paths
