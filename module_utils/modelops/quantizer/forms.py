"""The forms that a node can take: the nodes that stand for it and the tensors they read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ..model.checks import ITEM_BYTES
from ..model.learned import Learned, Made
from ..model.tensor_blocks import Files, Weight
from ..model.weights import Constant, Derived, attribute, rows, shrinks
from .nodes import Chain, Names
from .stream import BlockQuantizedWeight, Layout, QuantizedWeight, Segment, computed, constant

FORMS = ("dynamic_int8", "blockwise_int8", "weight_int8", "rows_int8", "fp32")
DYNAMIC, BLOCKWISE, WEIGHT_ONLY, ROWS, FP32 = FORMS
# Values of a block along K: 64 keeps the scales at 1/16 of the INT8 bytes' FP32 (26.6 % in all).
BLOCK_SIZE = 64
# MatMulNBits: 4 multiplies in INT8, with a scale for each block of the activations too. Below 4 the
# weights are unpacked again in each run, which was 10 to 50 times slower (tests/bench/forms.py).
ACCURACY_LEVEL = 4
# A scale for each element of the last dimension, within each matrix of a stack of matrices.
LAST = -1


class GraphState:
    """What the nodes of one graph share: values that were made once already, by what they hold."""

    def __init__(self, outermost: bool) -> None:
        self.outermost = outermost
        self.quantized: dict[str, list[str]] = {}  # activation: INT8 value, scale, zero point
        self.casts: dict[str, str] = {}  # value: the same in FP32
        self.unpacked: dict[Made, str] = {}  # its value


class Emitter:
    """Makes the nodes of the forms and lays out their tensors, one copy a weight and layout.

    Args:
        layout: the data file to be.
        names: every name in the model; new ones are added.
        model: the graph file, beside which external data lies.
        files: handles to read the weights with.
        scratch: folder for scratch files; None takes the system's.
        per_channel: a scale for each output channel of a dynamic matrix, or one.
        learned: by the plans before.

    Attributes:
        tensors: initializers for the outermost graph, in file order.
        first: nodes for the outermost graph to begin with: what several graphs share.
    """

    def __init__(
        self,
        layout: Layout,
        names: set[str],
        model: Path,
        files: Files,
        scratch: Path | None,
        per_channel: bool,
        learned: Learned,
    ) -> None:
        self.tensors: list[TensorProto] = []
        self.first: list[NodeProto] = []
        self._shared: dict[Made, str] = {}
        self._makers: Counter[Made] = Counter()  # how many graphs make it
        self._layout, self._names = layout, Names(names)
        self._model, self._files, self._scratch = model, files, scratch
        self._per_channel, self._before = per_channel, learned
        self._placed: dict[tuple[Any, ...], str] = {}
        self._contents: dict[str, tuple[Any, ...]] = {}  # of a placed tensor, by name
        self._weights: dict[str, list[QuantizedWeight]] = {}
        self._owners: dict[str, str] = {}  # the key of the weight that a placed tensor is of
        self._stored: Counter[str] = Counter()  # bytes in INT8 by the weight's key
        self._sizes: dict[str, int] = {}  # bytes in the source by the weight's key

    def dynamic(self, node: NodeProto, weight: Constant, state: GraphState) -> list[NodeProto]:
        """MatMul or Gemm as quantize_dynamic writes them; onnxruntime fuses these nodes at load.

        The node's second input is `weight`, of two dimensions.
        """
        chain = self._chain(node)
        x = self._activation(chain, node, weight, state)
        if x not in state.quantized:
            state.quantized[x] = chain.add_many("DynamicQuantizeLinear", [x], 3)
        x_value, x_scale, x_zero = state.quantized[x]
        w_value, w_scale, w_zero = self._matrix(chain, node, weight, state)
        scales = chain.add("Mul", x_scale, w_scale)
        integer = chain.add("MatMulInteger", x_value, w_value, x_zero, w_zero)
        product = chain.add("Mul", chain.add("Cast", integer, to=TensorProto.FLOAT), scales)
        return self._finish(chain, node, weight, state, product)

    def blockwise(self, node: NodeProto, weight: Constant, state: GraphState) -> list[NodeProto]:
        """MatMul or Gemm as MatMulNBits with 8 bits; `weight` as for `dynamic`."""
        chain = self._chain(node)
        x = self._activation(chain, node, weight, state)
        value, scale, n, k = self._blocks(node, weight)
        product = chain.add(
            "MatMulNBits", x, value, scale, domain="com.microsoft",
            K=k, N=n, bits=8, block_size=BLOCK_SIZE, accuracy_level=ACCURACY_LEVEL,
        )  # fmt: skip
        if (alpha := _factor(node, "alpha")) != 1.0:
            product = chain.add("Mul", product, self._number(alpha))
        return self._finish(chain, node, weight, state, product)

    def probed(
        self,
        node: NodeProto,
        weight: Constant,
        state: GraphState,
        emit: Callable[[NodeProto], list[NodeProto]],
    ) -> tuple[list[NodeProto], str, str]:
        """A node in FP32, beside it its INT8 form, and the sums of squares that compare them.

        Args:
            emit: makes the nodes of the form for a node.

        Returns:
            The nodes, and the names of the squared error and of the squared reference.
        """
        own = NodeProto()
        own.CopyFrom(node)
        own.name = self._names.fresh(f"{node.name or node.output[0]}_int8")
        for index, name in enumerate(node.output):
            own.output[index] = self._names.fresh(f"{name}_int8") if name else ""
        chain = self._chain(node)
        reference = self._as_fp32(chain, node.output[0], weight, state)
        difference = chain.add("Sub", self._as_fp32(chain, own.output[0], weight, state), reference)
        error, whole = (
            chain.add("ReduceSum", chain.add("Mul", x, x), keepdims=0)
            for x in (difference, reference)
        )
        return [node, *emit(own), *chain.nodes], error, whole

    def gather_rows(self, node: NodeProto, weight: Constant) -> list[NodeProto]:
        """Gather INT8 rows and their scales, then multiply: only the rows in use are unpacked."""
        chain = self._chain(node)
        value, scale = self._stack(weight, 1)
        rows, scales = (chain.add("Gather", part, node.input[1], axis=0) for part in (value, scale))
        self._unpack(chain, weight, rows, scales)
        return chain.ending_in(node)

    def weight_only(
        self, node: NodeProto, weights: Iterable[tuple[int, Constant, int]], state: GraphState
    ) -> list[NodeProto]:
        """Store weights as INT8 and multiply them back, which onnxruntime does once, at load.

        A default session folds Cast and Mul of constants; DequantizeLinear it does not fold, and
        that ran at 0.3 to 0.9 of FP32's speed.

        Args:
            weights: input index, weight, and how many leading dimensions have a scale for each of
                their elements, or LAST.
        """
        changed = NodeProto()
        changed.CopyFrom(node)
        nodes: list[NodeProto] = []
        for index, weight, leading in weights:
            name = changed.input[index]
            changed.input[index] = self._unpacked(name, weight, leading, state, nodes)
        return [*nodes, changed]

    def _unpacked(
        self, name: str, weight: Constant, leading: int, state: GraphState, nodes: list[NodeProto]
    ) -> str:
        """A weight that was INT8 on disk, at the place of `name`; adds the nodes that make it."""
        if isinstance(weight, Derived):
            return self._derived(name, weight, state, nodes)
        key = ("unpacked", weight.key, *map(str, (weight.dims, weight.transposed, weight.kind)))

        def make(chain: Chain) -> str:
            value = self._unpack(chain, weight, *self._stack(weight, leading))
            return chain.add("Transpose", value, perm=[1, 0]) if weight.transposed else value

        return self._made(key, state, Chain(weight.tensor.name, self._names), nodes, make)

    def _made(
        self,
        key: Made,
        state: GraphState,
        chain: Chain,
        nodes: list[NodeProto],
        make: Callable[[Chain], str],
    ) -> str:
        """A value made of constants alone, once a graph, or once for all graphs that read it.

        Args:
            make: adds the nodes that make it to the chain, and returns its name.
            nodes: where to add the chain when it is for this graph.
        """
        shared = key in self._before.shared
        values = self._shared if shared else state.unpacked
        if key not in values:
            values[key] = make(chain)
            self._makers[key] += 1
            (self.first if shared else nodes).extend(chain.nodes)
        return values[key]

    def _derived(
        self, name: str, weight: Derived, state: GraphState, nodes: list[NodeProto]
    ) -> str:
        """The value `name` of a copy of the node that makes a weight; others may read the node."""
        if ("derived", name) not in state.unpacked:
            copy = NodeProto()
            copy.CopyFrom(weight.node)
            copy.name = self._names.fresh(f"{copy.name or name}_int8")
            for index, source in enumerate(copy.input):
                part = weight.parts.get(source)
                if part is not None and any(shrinks(inner) for inner in part.stored):
                    copy.input[index] = self._unpacked(source, part, rows(part), state, nodes)
            for index, output in enumerate(copy.output):
                if output:
                    copy.output[index] = self._names.fresh(f"{output}_int8")
                    state.unpacked[("derived", output)] = copy.output[index]
            nodes.append(copy)
        return state.unpacked[("derived", name)]

    def learned(self, in_fp32: Collection[str]) -> Learned:
        """Return what is known now: what nodes shared, and of which weights INT8 saves nothing.

        Args:
            in_fp32: keys of the weights that are still read as they were.
        """
        stored = {
            key: {k[:-1] for k in self._placed if k[-1] == key} for key in ("matrix", "stack")
        }
        twice = stored["matrix"] & stored["stack"] if self._per_channel else set()
        larger = {key for key, size in self._stored.items() if size > self._sizes[key]}
        return self._before | Learned(
            frozenset(twice),
            frozenset(self._stored.keys() & in_fp32),
            frozenset(larger),
            frozenset(key for key, graphs in self._makers.items() if graphs > 1),
        )

    def name_apart(self, nodes: Iterable[NodeProto]) -> None:
        """Rename nodes of a graph that have another's name: onnxruntime would not load it."""
        seen: set[str] = set()
        for node in nodes:
            if node.name in seen:
                node.name = self._names.fresh(node.name)
            if node.name:
                seen.add(node.name)

    def _chain(self, node: NodeProto) -> Chain:
        return Chain(node.name or node.output[0], self._names)

    def _activation(
        self, chain: Chain, node: NodeProto, weight: Constant, state: GraphState
    ) -> str:
        """The first operand in FP32, [M, K]."""
        x = self._as_fp32(chain, node.input[0], weight, state)
        return chain.add("Transpose", x, perm=[1, 0]) if attribute(node, "transA", 0) else x

    def _as_fp32(self, chain: Chain, name: str, weight: Constant, state: GraphState) -> str:
        """Cast where the model works in half precision: the quantized operators take FP32."""
        if weight.kind == TensorProto.FLOAT:
            return name
        if name not in state.casts:
            state.casts[name] = chain.add("Cast", name, to=TensorProto.FLOAT)
        return state.casts[name]

    def _finish(
        self, chain: Chain, node: NodeProto, weight: Constant, state: GraphState, product: str
    ) -> list[NodeProto]:
        """Add Gemm's bias, and give the result the node's type and name."""
        if len(node.input) > 2 and node.input[2]:
            bias = self._as_fp32(chain, node.input[2], weight, state)
            if (beta := _factor(node, "beta")) != 1.0:
                bias = chain.add("Mul", bias, self._number(beta))
            product = chain.add("Add", product, bias)
        if weight.kind != TensorProto.FLOAT:
            chain.add("Cast", product, to=weight.kind)
        return chain.ending_in(node)

    def _unpack(self, chain: Chain, weight: Constant, value: str, scale: str) -> str:
        product = chain.add("Mul", chain.add("Cast", value, to=TensorProto.FLOAT), scale)
        if weight.kind != TensorProto.FLOAT:
            product = chain.add("Cast", product, to=weight.kind)
        return product

    def _matrix(
        self, chain: Chain, node: NodeProto, weight: Constant, state: GraphState
    ) -> tuple[str, str, str]:
        """INT8 [K, N] with the scales and zero points of its N output channels."""
        turn = _stored_as_n_k(node, weight)
        # Its rows or columns are there, or will be, with the same scales, as those of an embedding.
        leading = 1 if turn else LAST
        layer = weight.key, weight.dims, leading
        tied = self._per_channel and (
            (*layer, "stack") in self._placed or layer in self._before.tied
        )
        channels = weight.dims[0 if turn else 1]
        axis = (0 if turn else 1) if self._per_channel else None
        dims = (channels,) if self._per_channel else ()

        def make() -> list[QuantizedWeight]:
            source = self._source(weight, (weight.dims[0], weight.dims[1]))
            return [QuantizedWeight(source, axis, turn, self._scratch)]

        shape = weight.dims[::-1] if turn else weight.dims
        if tied:
            value, _ = self._stack(weight, leading)
        else:
            value = self._int8((*layer, "matrix"), weight, shape, make)
        zeros = bytes(math.prod(dims))
        zero = self._once(
            ("zero point", value),
            lambda: Segment(
                f"{value}_zero_point", TensorProto.INT8, dims, len(zeros), constant(zeros)
            ),
        )
        scale = self._scale(value, dims, _factor(node, "alpha"))
        if tied and turn:  # onnxruntime turns a constant once, at load
            key = ("turned", weight.key, str(weight.dims))
            own = Chain(chain.base, self._names)
            int8 = value
            value = self._made(
                key, state, own, chain.nodes, lambda c: c.add("Transpose", int8, perm=[1, 0])
            )
        return value, scale, zero

    def _stack(self, weight: Constant, leading: int) -> tuple[str, str]:
        """INT8 in the weight's own shape, and scales that multiply it back by broadcasting."""
        dims = weight.dims
        if leading == LAST:
            rows, columns = dims[-2], dims[-1]
            stack, axis, scale_dims = math.prod(dims[:-2]), 1, (*dims[:-2], 1, columns)
        else:
            rows, columns = math.prod(dims[:leading]), math.prod(dims[leading:])
            stack, axis, scale_dims = 1, 0, (*dims[:leading], *(1 for _ in dims[leading:]))

        def make() -> list[QuantizedWeight]:
            size = rows * columns
            parts = (self._source(weight, (rows, columns), i * size) for i in range(stack))
            return [QuantizedWeight(part, axis, False, self._scratch) for part in parts]

        value = self._int8((weight.key, dims, leading, "stack"), weight, dims, make)
        return value, self._scale(value, scale_dims, 1.0)

    def _blocks(self, node: NodeProto, weight: Constant) -> tuple[str, str, int, int]:
        """The blocks of MatMulNBits with their scales, N and K."""
        turn = _stored_as_n_k(node, weight)
        k, n = weight.dims[::-1] if turn else weight.dims
        key = (weight.key, "blocks", weight.dims, turn)
        if (*key, "value") not in self._placed:
            source = self._source(weight, (weight.dims[0], weight.dims[1]))
            blocks = BlockQuantizedWeight(source, BLOCK_SIZE, turn, self._scratch)
            dims, name = blocks.dims, weight.tensor.name
            self._once(
                (*key, "value"),
                lambda: Segment(
                    f"{name}_blocks", TensorProto.UINT8, dims, math.prod(dims), blocks.chunks
                ),
            )
            count = dims[0] * dims[1]
            self._once(
                (*key, "scale"),
                lambda: Segment(
                    f"{name}_blocks_scale", TensorProto.FLOAT, (count,), 4 * count,
                    computed(lambda _pool: blocks.scale_bytes()),
                ),
            )  # fmt: skip
        return self._placed[(*key, "value")], self._placed[(*key, "scale")], n, k

    def _source(self, weight: Constant, shape: tuple[int, int], start: int = 0) -> Weight:
        size = math.prod(weight.tensor.dims) * ITEM_BYTES[weight.tensor.data_type]
        self._sizes[weight.key] = size
        return Weight(weight.tensor, shape, self._model, self._files, start)

    def _int8(
        self,
        key: tuple[Any, ...],
        weight: Constant,
        dims: tuple[int, ...],
        make: Callable[[], list[QuantizedWeight]],
    ) -> str:
        """Lay out a weight's INT8 values once for all nodes that use them in the same way."""
        if key not in self._placed:
            parts = make()
            name = self._once(
                key,
                lambda: Segment(
                    f"{weight.tensor.name}_quantized", TensorProto.INT8, dims, math.prod(dims),
                    lambda pool: (chunk for part in parts for chunk in part.chunks(pool)),
                ),
            )  # fmt: skip
            self._weights[name] = parts
        return self._placed[key]

    def _scale(self, value: str, dims: tuple[int, ...], factor: float) -> str:
        """Lay out the scales of an INT8 weight, behind it: they are known when it was read."""
        parts = self._weights[value]
        return self._once(
            ("scale", value, dims, factor),
            lambda: Segment(
                f"{value.removesuffix('_quantized')}_scale", TensorProto.FLOAT, dims,
                4 * math.prod(dims),
                computed(lambda pool: b"".join(part.scale_bytes(pool, factor) for part in parts)),
            ),
        )  # fmt: skip

    def _once(self, key: tuple[Any, ...], make: Callable[[], Segment]) -> str:
        """Place the segment of a key at its first use, and return its tensor's name."""
        if key not in self._placed:
            segment = make()
            name = self._names.fresh(segment.name)
            # A tensor's name may be another one in the next plan, what it holds is not.
            content = tuple(self._contents.get(str(part), part) for part in key)
            self.tensors.append(self._layout.add(segment._replace(name=name, content=content)))
            self._placed[key], self._contents[name] = name, content
            # Scales and zero points are told by the INT8 values that they are of.
            self._owners[name] = self._owners.get(str(key[1]), str(key[0]))
            self._stored[self._owners[name]] += segment.length
        return self._placed[key]

    def _number(self, value: float) -> str:
        """A scalar constant; it is small and stays in the graph."""
        key = ("number", value)
        if key not in self._placed:
            name = self._placed[key] = self._names.fresh(f"number_{value}")
            self.tensors.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return self._placed[key]


def _stored_as_n_k(node: NodeProto, weight: Constant) -> bool:
    """Tell whether the weight's bytes are those of [N, K], so that [K, N] is their transpose."""
    return bool(attribute(node, "transB", 0)) != weight.transposed


def _factor(node: NodeProto, name: str) -> float:
    value = attribute(node, name, 1.0)
    assert isinstance(value, float)
    return value
