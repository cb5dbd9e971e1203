"""Reading an ONNX graph without its weights, and refusing what cannot be quantized safely."""

from __future__ import annotations

import itertools
import math
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from ..base.errors import ModelOpsError, raise_all
from . import order, protobuf
from .checks import find_problems, is_text, stored_bytes
from .inline_functions import inlined

# Operators that only a quantized model has. Quantizing one again would stack errors silently.
QUANTIZED_OPS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger",
    "QLinearMatMul", "QLinearConv", "QGemm", "QAttention", "QEmbedLayerNormalization",
    "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeLSTM", "MatMulNBits",
    "GatherBlockQuantized",
})  # fmt: skip
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})

OLDEST_OPSET = 7
FETCH_AGAIN = "Export or copy the model again, with its data file."


@dataclass(frozen=True)
class Extent:
    """Where the raw little-endian bytes of a tensor lie: a file, and a range in bytes."""

    path: Path
    offset: int
    length: int


def unreadable(path: Path, error: OSError) -> ModelOpsError:
    """Return what to say of a failing read: the system's own error does not name the file."""
    return ModelOpsError(
        f"the file cannot be read ({error.strerror})",
        where=path,
        remedy="Check its permissions, that no other program keeps it open for itself, and the disk"
        " (dmesg, smartctl), and copy it again.",
    )


def read_model(path: Path, fold_inputs: bool = False) -> ModelProto:
    """Read a model's graph; its weights stay on disk, external and inline ones (see skeleton).

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


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that a node carries as attributes (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every graph nested in it, outermost first."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def names_read(graph: GraphProto) -> set[str]:
    """Return the names that a graph's nodes, outputs and nested graphs read."""
    return {value.name for value in graph.output}.union(*map(node_reads, graph.node))


def node_reads(node: NodeProto) -> set[str]:
    """Return the names that a node reads, within its nested graphs too."""
    return set(node.input).union(*map(free_names, subgraphs(node)))


def free_names(graph: GraphProto) -> set[str]:
    """Return the names that a graph reads from outside of it."""
    own = {value.name for value in graph.input}
    own.update(tensor.name for tensor in graph.initializer)
    own.update(sparse.values.name for sparse in graph.sparse_initializer)
    own.update(name for node in graph.node for name in node.output)
    return names_read(graph) - own


def all_names(model: ModelProto) -> set[str]:
    """Return every name of a value, tensor or node in a model."""
    names: set[str] = set()
    for graph in all_graphs(model.graph):
        names.update(value.name for value in (*graph.input, *graph.output))
        names.update(tensor.name for tensor in graph.initializer)
        names.update(sparse.values.name for sparse in graph.sparse_initializer)
        for node in graph.node:
            names.add(node.name)
            names.update(node.input)
            names.update(node.output)
    return names


def element_count(tensor: TensorProto) -> int:
    """Return the number of elements of a tensor; a scalar has one."""
    return math.prod(tensor.dims)


def is_external(tensor: TensorProto) -> bool:
    """Tell whether a tensor's bytes lie outside the graph file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def locate(tensor: TensorProto, model: Path) -> Extent:
    """Find the bytes of an external tensor, trusting nothing that the graph says about them.

    Args:
        model: the graph file; a tensor may lie in it (see skeleton) or in a file of its folder.

    Raises:
        ModelOpsError: the location leaves the model's folder, is a link, is missing or too short,
            or offset and length contradict the tensor's shape.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    path = model.parent / location
    where = f"tensor {tensor.name!r} in {path}"
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if (
        not location
        or posix.is_absolute()
        or windows.drive
        or windows.root
        or ".." in posix.parts
        or ".." in windows.parts
        or "\0" in location
    ):
        raise ModelOpsError(
            f"external data location {location!r} leads out of the model's folder",
            where=f"tensor {tensor.name!r}",
            remedy="Such a file can read any file of this host; get the model from its maker.",
        )
    if location != model.name:
        _require_plain_file(model.parent, posix)
    needed = stored_bytes(tensor.data_type, element_count(tensor))
    if needed is None:
        raise ModelOpsError(
            f"external data of type {tensor.data_type} is not supported",
            where=where,
            remedy=FETCH_AGAIN,
        )
    offset = _number(entries.get("offset", "0"))
    length = _number(entries.get("length", str(needed)))
    if offset is None or length is None:
        raise ModelOpsError(
            f"offset {entries.get('offset')!r} or length {entries.get('length')!r} is no number",
            where=where,
            remedy=FETCH_AGAIN,
        )
    size = path.stat().st_size
    if min(offset, needed) < 0 or length != needed:
        raise ModelOpsError(
            f"its shape {list(tensor.dims)} needs {needed:,} bytes, but the graph says offset"
            f" {offset:,} and length {length:,}",
            where=where,
            remedy=FETCH_AGAIN,
        )
    if offset + length > size:
        raise ModelOpsError(
            f"the data file is truncated: bytes {offset:,} to {offset + length:,} are needed, it"
            f" has {size:,}",
            where=where,
            remedy=FETCH_AGAIN,
        )
    return Extent(path, offset, length)


def _number(text: str) -> int | None:
    """Read a number as the exporters write them; int() would take `1_0` and ` 8`."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else None


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


def _require_plain_file(folder: Path, location: PurePosixPath) -> None:
    """Refuse links: onnx refuses them too, and a link can point at any file of the host."""
    path = folder
    status = folder.stat()
    for part in location.parts:
        path = path / part
        try:
            status = path.lstat()
        except FileNotFoundError:
            raise ModelOpsError(
                "the model's data file is missing", where=path, remedy=FETCH_AGAIN
            ) from None
        except (NotADirectoryError, OSError) as error:
            raise ModelOpsError(
                f"the model's data file cannot be reached ({error.strerror})",
                where=path,
                remedy=FETCH_AGAIN,
            ) from None
        if stat.S_ISLNK(status.st_mode):
            raise ModelOpsError(
                "the model's data is reached through a symbolic link",
                where=path,
                remedy="Put the file itself there; a link could name any file of this host.",
            )
    if not stat.S_ISREG(status.st_mode):
        raise ModelOpsError(
            "the model's data is not a regular file", where=path, remedy=FETCH_AGAIN
        )
    if status.st_nlink > 1:
        raise ModelOpsError(
            f"the model's data file has {status.st_nlink} hard links",
            where=path,
            remedy="Copy it (cp FILE NEW && mv NEW FILE): onnx refuses such files, and a change"
            " through the other name would go unseen.",
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
