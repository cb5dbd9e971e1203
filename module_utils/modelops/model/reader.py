"""Reading an ONNX graph without its weights, and refusing what cannot be quantized safely."""

from __future__ import annotations

import itertools
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto

from ..base.errors import ModelOpsError, raise_all
from . import order, protobuf
from .checks import find_problems, is_text
from .inline_functions import inlined
from .locate import FETCH_AGAIN, Extent, locate, unreadable
from .walk import all_graphs, is_external, node_reads

# Operators that only a quantized model has. Quantizing one again would stack errors silently.
QUANTIZED_OPS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger",
    "QLinearMatMul", "QLinearConv", "QGemm", "QAttention", "QEmbedLayerNormalization",
    "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM", "MatMulNBits",
    "GatherBlockQuantized",
})  # fmt: skip
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})

OLDEST_OPSET = 7


def read_model(path: Path, fold_inputs: bool = False) -> ModelProto:
    """Read a model's graph; its weights stay on disk, external and inline ones (see protobuf).

    Its nodes are in topological order, if they have one.

    Args:
        fold_inputs: make constants of the initializers that are graph inputs too.

    Raises:
        ModelOpsError: the file is missing, empty, not ONNX, or without a graph.
    """
    try:
        if not path.is_file():
            raise ModelOpsError("there is no such model file", where=path, remedy="Check the path.")
        if path.stat().st_size == 0:
            raise ModelOpsError("the file is empty (0 bytes)", where=path, remedy=FETCH_AGAIN)
        model = protobuf.load(path)
    except OSError as error:
        raise unreadable(path, error) from None
    except DecodeError:
        raise ModelOpsError(
            "not an ONNX file (it does not parse as one)", where=path, remedy=FETCH_AGAIN
        ) from None
    if not model.HasField("graph") or not model.graph.node or model.ir_version == 0:
        raise ModelOpsError(
            "not a usable ONNX file: it holds no graph with nodes", where=path, remedy=FETCH_AGAIN
        )
    if not is_text(model):
        raise ModelOpsError(
            "a name in the graph is no text (not UTF-8)", where=path, remedy=FETCH_AGAIN
        )
    model = inlined(model, path)
    if model.ir_version < 4 or fold_inputs:
        _free_initializers(model)
    for graph in all_graphs(model.graph):
        _lift_constants(graph)
        order.sort(graph, [node_reads(node) for node in graph.node])
    return model


def _free_initializers(model: ModelProto) -> None:
    """Let no input stand for an initializer, as IR 4 allows: before, each had to have one.

    Before IR 4 no caller could give such an input: onnxruntime takes the initializer for a
    constant.
    """
    names = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(4, model.ir_version)


def _lift_constants(graph: GraphProto) -> None:
    """Make initializers of the Constant nodes whose values lie outside of the graph file."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), TensorProto())
        if (
            is_external(value)
            and node.op_type == "Constant"
            and node.domain in ("", "ai.onnx")
            and len(node.output) == 1
        ):
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def validate(model: ModelProto, path: Path) -> set[Path]:
    """Refuse a model that could not be quantized, or not be trusted, before anything is written.

    Returns:
        The files that the model's external tensors lie in; with inline weights its own.

    Raises:
        ModelOpsError: every cause found, at once.
    """
    _require_opset(model, path)
    problems = find_problems(model, path) + _graph_problems(model, path)
    extents: list[tuple[str, Extent]] = []
    broken_files: set[str] = set()
    for graph in all_graphs(model.graph):
        for tensor in graph.initializer:
            if not is_external(tensor):
                continue
            try:
                extents.append((tensor.name, locate(tensor, path)))
            except ModelOpsError as problem:
                location = next((e.value for e in tensor.external_data if e.key == "location"), "")
                # One missing or truncated file is one problem, not one a tensor.
                if location not in broken_files:
                    problems.append(problem)
                broken_files.add(location)
    problems += _overlaps(extents)
    raise_all(problems)
    return {extent.path for _, extent in extents}


def _require_opset(model: ModelProto, path: Path) -> None:
    """Refuse a model of an opset whose operators are others: all else of it would look wrong."""
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    nodes = (node for graph in all_graphs(model.graph) for node in graph.node)
    if not versions and all(node.domain not in ("", "ai.onnx") for node in nodes):
        return
    version = min(versions, default=0)
    if version < OLDEST_OPSET:
        raise ModelOpsError(
            f"the model's opset is {version}; onnxruntime runs {OLDEST_OPSET} and newer",
            where=path,
            remedy='Export the model with a newer opset, or convert it: python -c "import onnx,'
            " onnx.version_converter as v; onnx.save(v.convert_version(onnx.load('OLD.onnx'), 13),"
            " 'NEW.onnx')\"",
        )


def _graph_problems(model: ModelProto, path: Path) -> list[ModelOpsError]:
    problems: list[ModelOpsError] = []
    known_functions = {(f.domain, f.name) for f in model.functions}
    quantized, foreign = set(), set()
    for graph in all_graphs(model.graph):
        seen: set[str] = set()
        for tensor in graph.initializer:
            if tensor.name in seen:
                problems.append(
                    ModelOpsError(
                        f"two tensors are named {tensor.name!r}", where=path, remedy=FETCH_AGAIN
                    )
                )
            seen.add(tensor.name)
    nodes = [node for graph in all_graphs(model.graph) for node in graph.node]
    for node in (*nodes, *(node for function in model.functions for node in function.node)):
        if node.op_type in QUANTIZED_OPS:
            quantized.add(node.op_type)
        known = (node.domain, node.op_type) in known_functions
        if node.domain not in STANDARD_DOMAINS and not known:
            foreign.add(f"{node.domain}::{node.op_type}")
    if quantized:
        problems.append(
            ModelOpsError(
                f"the model is already quantized (it has {', '.join(sorted(quantized))})",
                where=path,
                remedy="Give the FP32 model that it was made from.",
            )
        )
    if foreign:
        problems.append(
            ModelOpsError(
                f"operators of unknown domains: {', '.join(sorted(foreign))}",
                where=path,
                remedy="Export the model with standard operators.",
            )
        )
    return problems


def _overlaps(extents: list[tuple[str, Extent]]) -> list[ModelOpsError]:
    """Equal extents are one tied tensor under two names; a partial overlap is a broken file."""
    problems = []
    occupied = [item for item in extents if item[1].length]
    ordered = sorted(occupied, key=lambda item: (str(item[1].path), item[1].offset))
    for (name, a), (other, b) in itertools.pairwise(ordered):
        if a != b and a.path == b.path and b.offset < a.offset + a.length:
            problems.append(
                ModelOpsError(
                    f"tensors {name!r} and {other!r} overlap", where=a.path, remedy=FETCH_AGAIN
                )
            )
    return problems
