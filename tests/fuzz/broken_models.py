"""The models that the fuzzer breaks, and every way that it breaks them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import models
import onnx
from modelops.model.walk import all_graphs
from modelops.model.weights import DERIVING
from modelops.quantizer.operators import FUSED, QUANTIZABLE
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

INTEGERS = (
    0, 1, -1, 2, 3, 7, 31, 32, 64, 127, 255, 256, 1000, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32,
    1 << 40, (1 << 62) + 1, (1 << 63) - 1, -(1 << 31), -(1 << 63),
)  # fmt: skip
TYPES = (*range(-1, 27), 999)
NUMBERS = ("", "0", "-1", "1", "64", "4096", "x", "1e3", "0x10", " 8", "1_000", "٣", "9" * 30)
NAMES = ("", "x", "w", "w1", "y", "emb", "\0", "ü" * 50, "a/b", "." * 300)
LOCATIONS = ("", ".", "..", "./m.onnx.data", "m.onnx", "m.onnx.data/", "no", "a\0b", "/etc/passwd",
             "../outside", "x" * 300, "\\\\host\\x", "m.onnx.data//.")  # fmt: skip
OPS = (*QUANTIZABLE, *FUSED, *sorted(DERIVING), "Constant", "If", "Loop", "Relu", "Add")


# --- the models that are broken ----------------------------------------------------------------


def own_functions(opsets: list[onnx.OperatorSetIdProto]) -> list[onnx.FunctionProto]:
    """A function that holds a weight, and one that calls it twice."""
    node = helper.make_node
    weight = numpy_helper.from_array(models.random_weight(40, 40))
    once = [node("Constant", [], ["w"], value=weight)]
    once.append(node("MatMul", ["a", "w"], ["b"], name="inside"))
    twice = [node("Once", ["a"], ["b"], domain="own"), node("Once", ["b"], ["c"], domain="own")]
    return [
        helper.make_function("own", "Once", ["a"], ["b"], once, opsets[:1]),
        helper.make_function("own", "Twice", ["a"], ["c"], twice, opsets),
    ]


def nodes_with_weights() -> list[onnx.NodeProto]:
    """Return each operator that holds weights; y1 to y17 are what they give."""
    w = models.random_weight
    node = helper.make_node
    inner = helper.make_graph(
        [node("MatMul", ["x", "w"], ["z"], name="inner")], "body", [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    shape = numpy_helper.from_array(models.np.array([36, -1], "int64"))
    scaled = {"alpha": 0.5, "transA": 0, "transB": 0, "transBatchA": 0, "transBatchB": 0}
    return [
        node("Constant", [], ["k"], value=numpy_helper.from_array(w(40, 36))),
        node("Constant", [], ["shape"], value=shape),
        node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        node("Reshape", ["k", "shape"], ["wr"]),
        node("Identity", ["wt"], ["wi"]),
        node("MatMul", ["x", "k"], ["y1"], name="constant"),
        node("Gemm", ["x", "w", "b36"], ["y2"], name="gemm", alpha=0.5, beta=2.0),
        node("MatMul", ["x36", "wi"], ["y3"], name="behind"),
        node("MatMul", ["x36", "wr"], ["y4"], name="reshaped"),
        node("Conv", ["x3", "c"], ["y5"], name="conv"),
        node("ConvTranspose", ["x3", "c"], ["y6"], name="transposed"),
        node("Split", ["l"], ["l1", "l2"], axis=2),
        node("Concat", ["l2", "l1"], ["l21"], axis=2),
        node("LSTM", ["x3", "l21", "r"], ["y7"], name="lstm", hidden_size=24),
        node("Attention", ["x3", "a", "b"], ["y8"], name="att", domain="com.microsoft"),
        node("MatMul", ["x3", "s"], ["y9"], name="stack"),
        node("Cast", ["x"], ["xh"], to=TensorProto.FLOAT16),
        node("MatMul", ["xh", "half"], ["y10"], name="half"),
        node("Gather", ["g", "codes"], ["y11"], name="rows"),
        node("If", ["flag"], ["y12"], name="if", then_branch=inner, else_branch=inner),
        node("Twice", ["x"], ["y13"], name="function", domain="own"),
        node("MatMul", ["x", "o"], ["y14"], name="ones"),
        node("FusedMatMul", ["x", "q"], ["y15"], name="scaled", domain="com.microsoft", **scaled),
        node(
            "FusedGemm",
            ["x", "q", "b36"],
            ["y16"],
            name="active",
            domain="com.microsoft",
            activation="LeakyRelu",
            activation_alpha=0.1,
        ),
        node(
            "EmbedLayerNormalization",
            ["ids", "", "g", "g", "", "b24", "b24"],
            ["y17", ""],
            name="embed",
            domain="com.microsoft",
        ),
    ]


def operators(path: Path, external: bool) -> Path:
    """A model with each operator that holds weights, and every way to hold one."""
    w = models.random_weight
    weights = {
        "w": w(40, 36), "c": w(16, 8, 9), "r": w(1, 96, 24), "l": w(1, 96, 20), "a": w(32, 96),
        "b": w(96), "s": w(2, 34, 33), "half": w(40, 36).astype("float16"), "g": w(72, 24),
        "o": w(1, 40, 36), "q": models.np.round(w(40, 36) * 30) / models.np.float32(64),
    }  # fmt: skip
    inputs = {"x": 2, "x36": 2, "x3": 3, "b36": 1, "b24": 1}
    graph = helper.make_graph(
        nodes_with_weights(),
        "g",
        [
            *(helper.make_tensor_value_info(n, 1, [None] * rank) for n, rank in inputs.items()),
            helper.make_tensor_value_info("codes", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("ids", TensorProto.INT32, [None, None]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info(f"y{i}", 1, None) for i in (*range(1, 10), *range(11, 18))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid(*pair) for pair in (("", 17), ("com.microsoft", 1), ("own", 1))]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=9, functions=own_functions(opsets)
    )
    onnx.save_model(
        model, path, size_threshold=2000,
        save_as_external_data=external, convert_attribute=True, location=f"{path.name}.data",
    )  # fmt: skip
    return path


MAKERS: tuple[Callable[[Path], Path], ...] = (
    lambda path: operators(path, True),
    lambda path: operators(path, False),
    models.voice,
    lambda path: models.matmul(path, 40, 36),
    lambda path: models.matmul(path, 40, 36, external=False),
)


# --- how they are broken -----------------------------------------------------------------------


def tensors(model: ModelProto) -> list[TensorProto]:
    found = []
    for graph in all_graphs(model.graph):
        found += graph.initializer
        found += [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    return found


def change_dims(model: ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(tensors(model) or [TensorProto()])
    kind = rng.randrange(4)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(INTEGERS)
    elif kind == 1:
        tensor.dims.extend([rng.choice((0, 1, rng.choice(INTEGERS)))] * rng.choice((1, 2, 70)))
    elif kind == 2:
        del tensor.dims[: rng.randrange(1, 3)]
    else:
        tensor.dims[:] = [rng.choice(INTEGERS) for _ in range(rng.randrange(4))]


def change_tensor(model: ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(tensors(model) or [TensorProto()])
    kind = rng.randrange(6)
    if kind == 0:
        tensor.data_type = rng.choice(TYPES)
    elif kind == 1:
        tensor.name = rng.choice(NAMES)
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: rng.randrange(8)] * rng.randrange(3)
    elif kind == 3:
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * rng.randrange(100))
    elif kind == 4:
        tensor.data_location = rng.choice((0, 1))
    else:
        tensor.int64_data.extend([rng.choice(INTEGERS)] * rng.randrange(3))


def change_place(model: ModelProto, rng: random.Random) -> None:
    external = [t for t in tensors(model) if t.external_data]
    tensor = rng.choice(external or [TensorProto()])
    key = rng.choice(("location", "offset", "length", "checksum", ""))
    value = rng.choice(LOCATIONS if key == "location" else NUMBERS)
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = value
            return
    tensor.external_data.add(key=key, value=value)


def any_node(model: ModelProto, rng: random.Random) -> onnx.NodeProto:
    nodes = [node for graph in all_graphs(model.graph) for node in graph.node]
    return rng.choice(nodes or [onnx.NodeProto()])


def change_node(model: ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    names = rng.choice((node.input, node.output))
    kind = rng.randrange(7)
    if kind == 0:
        del names[rng.randrange(3) :]
    elif kind == 1 and names:
        names[rng.randrange(len(names))] = rng.choice((*NAMES, *node.input, *node.output))
    elif kind == 2:
        names.append(rng.choice((*NAMES, *any_node(model, rng).output)))
    elif kind == 3:
        node.op_type = rng.choice((*OPS, ""))
    elif kind == 4:
        node.domain = rng.choice(("", "ai.onnx", "com.microsoft", "vendor", "\0"))
    elif kind == 5:
        node.name = rng.choice((*NAMES, any_node(model, rng).name))
    else:
        given = [name for _ in range(3) for name in any_node(model, rng).output]
        node.input[:] = given[:2]


def change_attribute(model: ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    wanted = ("alpha", "beta", "transA", "transB", "axis", "perm", "allowzero", "value", "body")
    if node.attribute and rng.random() < 0.5:
        attribute = rng.choice(list(node.attribute))
    else:
        attribute = node.attribute.add(name=rng.choice(wanted))
    attribute.type = rng.choice(range(15))
    attribute.i = rng.choice(INTEGERS)
    attribute.f = rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    attribute.s = rng.choice((b"", b"\xff", b"x" * 100))
    attribute.ints[:] = [rng.choice(INTEGERS) for _ in range(rng.randrange(3))]


def change_order(model: ModelProto, rng: random.Random) -> None:
    graph = rng.choice(list(all_graphs(model.graph)))
    nodes = list(onnx.GraphProto(node=graph.node).node)
    kind = rng.randrange(4)
    if kind == 0:
        rng.shuffle(nodes)
    elif kind == 1 and nodes:
        nodes += [rng.choice(nodes)] * rng.choice((1, 2, 300))
    elif kind == 2 and nodes:
        nodes.remove(rng.choice(nodes))
    else:
        nodes.reverse()
    del graph.node[:]
    graph.node.extend(nodes)


def change_graph(model: ModelProto, rng: random.Random) -> None:
    graph = rng.choice(list(all_graphs(model.graph)))
    kind = rng.randrange(6)
    if kind == 0:
        del rng.choice((graph.output, graph.input, graph.initializer, graph.node))[:]
    elif kind == 1 and graph.initializer:
        graph.initializer.add().CopyFrom(rng.choice(list(graph.initializer)))
    elif kind == 2:
        name = rng.choice([t.name for t in tensors(model)] or [""])
        graph.input.append(helper.make_tensor_value_info(name, 1, None))
    elif kind == 3:
        del model.opset_import[:]
        for _ in range(rng.randrange(3)):
            model.opset_import.append(helper.make_opsetid("", rng.choice(INTEGERS)))
    elif kind == 4:
        model.ir_version = rng.choice(INTEGERS)
    else:
        function = model.functions.add(name=rng.choice(OPS), domain=rng.choice(("", "vendor")))
        function.node.add().CopyFrom(any_node(model, rng))


def nest(model: ModelProto, rng: random.Random) -> None:
    """Put the whole graph into the branch of an If, and that into another, up to 40 deep."""
    for level in range(rng.choice((1, 5, 20, 40))):
        outer = onnx.GraphProto(name=f"level {level}")
        node = outer.node.add(op_type="If", name=f"if {level}", input=["flag"])
        node.output.append(f"out {level}")
        node.attribute.add(name="then_branch", type=AttributeProto.GRAPH).g.CopyFrom(model.graph)
        outer.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
        model.graph.CopyFrom(outer)


CHANGES = (
    change_dims, change_dims, change_tensor, change_tensor, change_place, change_place, change_node,
    change_node, change_attribute, change_attribute, change_order, change_graph, nest,
)  # fmt: skip


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Flip, drop or insert a few bytes."""
    broken = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(broken) or 1)
        kind = rng.randrange(4)
        if kind == 0:
            broken[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del broken[place : place + rng.choice((1, 2, 10, 1000))]
        elif kind == 2:
            broken[place:place] = bytes(rng.choice((b"\xff" * 9, b"\x80" * 12, b"\0", b"\x12\x0a")))
        else:
            del broken[place:]
    return bytes(broken)
