"""The forms that a node can take: the nodes that stand for it and the tensors they read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from onnx import NodeProto, TensorProto

from ..model.learned import Learned, Made
from ..model.tensor_blocks import Files
from ..model.weights import Constant, Derived, attribute, rows, shrinks
from .conv1d import windows
from .data_file import Layout
from .fused import activation, factor, of_activation
from .half import halves
from .nodes import Chain, GraphState, Names, Quantized
from .operators import IN_HALF
from .tensors import BLOCK_SIZE, Tensors

CONTRIB = "com.microsoft"  # the domain of onnxruntime's own operators
# MatMulNBits: 4 multiplies in INT8, with a scale for each block of the activations too. Below 4 the
# weights are unpacked again in each run, which was 10 to 50 times slower (tests/bench/forms.py).
ACCURACY_LEVEL = 4


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
        given: the name of a tensor that every run is given, or nothing.

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
        given: str,
    ) -> None:
        self._given = given
        self.first: list[NodeProto] = []
        self._shared: dict[Made, str] = {}
        self._makers: Counter[Made] = Counter()  # how many graphs make it
        self._names = Names(names)
        self._placed = Tensors(layout, self._names, model, files, scratch, per_channel, learned)
        self.tensors = self._placed.initializers
        self._before = learned

    def dynamic(self, node: NodeProto, weight: Constant, state: GraphState) -> list[NodeProto]:
        """MatMul or Gemm as quantize_dynamic writes them; onnxruntime fuses these nodes at load.

        The node's second input is `weight`, a matrix.
        """
        chain = self._chain(node)
        x = self._quantized(chain, self._activation(chain, node, weight, state), state)
        product = _product(chain, x, self._matrix(chain, node, weight, state))
        self._biased(chain, node, weight, state, product)
        return self._finish(chain, node, weight)

    def convolution(self, node: NodeProto, weight: Constant, state: GraphState) -> list[NodeProto]:
        """Conv over time as a product with a matrix: a window of x [N, C, T] in each row.

        ConvInteger was 3 to 20 times slower than Conv, this 1.5 to 4 times faster.
        """
        made, chain = windows(node, weight), self._chain(node)
        assert made is not None
        x = self._as_fp32(chain, node.input[0], weight, state)
        value, scale, zero = self._quantized(chain, x, state)
        steps = chain.add("Transpose", value, perm=[0, 2, 1])
        if made.before or made.after:  # with what stands for 0
            pads = self._placed.integers(0, made.before, 0, 0, made.after, 0)
            steps = chain.add("Pad", steps, pads, zero)
        rows = [steps]
        if made.kernel > 1 or made.stride > 1:
            ends = [map(self._placed.integers, (*ends, 1, made.stride)) for ends in made.slices()]
            rows = [chain.add("Slice", steps, *part) for part in ends]
        row = rows[0] if len(rows) == 1 else chain.add("Concat", *rows, axis=2)
        matrix, *of_matrix = self._placed.windows(weight)
        matrix = self._in_one_copy(matrix, weight, state)
        product = _product(chain, (row, scale, zero), (matrix, of_matrix[0], of_matrix[1]))
        product = self._biased(chain, node, weight, state, product)
        chain.add("Transpose", product, perm=[0, 2, 1])
        return self._finish(chain, node, weight)

    def lstm(self, node: NodeProto, weights: Iterable[tuple[int, Constant]]) -> list[NodeProto]:
        """LSTM as the DynamicQuantizeLSTM of onnxruntime."""
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.op_type, changed.domain = "DynamicQuantizeLSTM", CONTRIB
        inputs, scales = [*node.input, *[""] * (8 - len(node.input))], []
        for index, weight in weights:
            inputs[index], *of_weight = self._placed.gates(weight)
            scales += of_weight
        del changed.input[:], changed.attribute[:]
        changed.input.extend([*inputs, *scales])
        changed.attribute.extend(a for a in node.attribute if a.name != "layout")
        return [changed]

    def blockwise(
        self, node: NodeProto, weight: Constant, state: GraphState, bits: int
    ) -> list[NodeProto]:
        """MatMul or Gemm as MatMulNBits with 4 or 8 bits; `weight` as for `dynamic`."""
        chain = self._chain(node)
        turn, x = _stored_as_n_k(node, weight), self._activation(chain, node, weight, state)
        parts, n, k = self._placed.blocks(_matrix(weight), turn, bits)
        product = chain.add(
            "MatMulNBits", x, *parts, domain=CONTRIB,
            K=k, N=n, bits=bits, block_size=BLOCK_SIZE, accuracy_level=ACCURACY_LEVEL,
        )  # fmt: skip
        if (alpha := factor(node, "alpha")) != 1.0:
            product = chain.add("Mul", product, self._placed.number(alpha))
        self._biased(chain, node, weight, state, product)
        return self._finish(chain, node, weight)

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

    def gather_rows(self, node: NodeProto, weight: Constant, in_half: bool) -> list[NodeProto]:
        """Gather rows in INT8 and their scales, or in FP16: only those in use are unpacked."""
        chain = self._chain(node)
        if in_half:
            rows = chain.add("Gather", self._placed.half(weight), node.input[1], axis=0)
            chain.add("Cast", rows, to=weight.kind)
            return chain.ending_in(node)
        value, scale = self._placed.stack(weight, 1)
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
                their elements, LAST, or IN_HALF.
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
            return self._derived(name, weight, leading, state, nodes)
        form = "half" if leading == IN_HALF else "unpacked"
        key = (form, weight.key, *map(str, (weight.dims, weight.transposed, weight.kind)))

        def make(chain: Chain) -> str:
            if leading == IN_HALF:
                value = chain.add("Cast", self._placed.half(weight), to=weight.kind)
            else:
                value = self._unpack(chain, weight, *self._placed.stack(weight, leading))
            last = len(weight.dims) - 1
            perm = [*range(last - 1), last, last - 1]
            return chain.add("Transpose", value, perm=perm) if weight.transposed else value

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

    def _in_one_copy(self, matrix: str, weight: Constant, state: GraphState) -> str:
        """Return what several graphs may read as the matrix of a Conv, without a copy for each.

        onnxruntime packs a constant matrix again for each graph that multiplies with it, such as
        both branches of an If; a Conv's weight it does not pack. A Reshape by what is not known at
        load gives the same bytes as a value that is no constant. Reading it takes a quarter more
        time.
        """
        key = ("windows", weight.key, str(weight.dims))
        if key not in state.unpacked:
            state.unpacked[key] = matrix
            self._makers[key] += 1
        if key not in self._before.shared or not self._given:
            return matrix
        if key not in self._shared:
            n, channels, kernel = weight.dims
            chain = Chain(matrix, self._names)
            size = chain.add("Size", self._given)
            shape = self._placed.integers(kernel * channels, n)
            shape = chain.add("Add", chain.add("Sub", size, size), shape)
            self._shared[key] = chain.add("Reshape", matrix, shape)
            self.first.extend(chain.nodes)
        return self._shared[key]

    def _derived(
        self,
        name: str,
        weight: Derived,
        leading: int,
        state: GraphState,
        nodes: list[NodeProto],
    ) -> str:
        """The value `name` of a copy of the node that makes a weight; others may read the node."""
        in_half = leading == IN_HALF
        form, is_smaller = ("half of", halves) if in_half else ("derived", shrinks)
        if (form, name) not in state.unpacked:
            copy = NodeProto()
            copy.CopyFrom(weight.node)
            copy.name = self._names.fresh(f"{copy.name or name}_int8")
            for index, source in enumerate(copy.input):
                part = weight.parts.get(source)
                if part is not None and any(map(is_smaller, part.stored)):
                    how = IN_HALF if in_half else rows(part)
                    copy.input[index] = self._unpacked(source, part, how, state, nodes)
            for index, output in enumerate(copy.output):
                if output:
                    copy.output[index] = self._names.fresh(f"{output}_int8")
                    state.unpacked[(form, output)] = copy.output[index]
            nodes.append(copy)
        return state.unpacked[(form, name)]

    def learned(self, in_fp32: Collection[str]) -> Learned:
        """Return what is known now: what nodes shared, and of which weights INT8 saves nothing.

        Args:
            in_fp32: keys of the weights that are still read as they were.
        """
        shared = frozenset(key for key, graphs in self._makers.items() if graphs > 1)
        return self._before | self._placed.learned(in_fp32) | Learned(shared=shared)

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

    def _quantized(self, chain: Chain, x: str, state: GraphState) -> Quantized:
        """An activation in INT8, once a graph."""
        if x not in state.quantized:
            value, scale, zero = chain.add_many("DynamicQuantizeLinear", [x], 3)
            state.quantized[x] = value, scale, zero
        return state.quantized[x]

    def _biased(
        self, chain: Chain, node: NodeProto, weight: Constant, state: GraphState, product: str
    ) -> str:
        """Give a product the shape of the node's, its bias and its activation."""
        if len(weight.dims) > max(2, state.ranks.get(node.input[0], 0)) and node.op_type != "Conv":
            product = self._widened(chain, node.input[0], len(weight.dims), product)
        if len(node.input) > 2 and node.input[2]:
            bias = self._as_fp32(chain, node.input[2], weight, state)
            if (beta := factor(node, "beta")) != 1.0:
                bias = chain.add("Mul", bias, self._placed.number(beta))
            product = chain.add("Add", product, bias)
        if named := activation(node):
            product = chain.add(named, product, **of_activation(node))
        return product

    @staticmethod
    def _finish(chain: Chain, node: NodeProto, weight: Constant) -> list[NodeProto]:
        """Give what the last node of the chain gives the node's type and name."""
        if weight.kind != TensorProto.FLOAT:
            chain.add("Cast", chain.nodes[-1].output[0], to=weight.kind)
        return chain.ending_in(node)

    def _widened(self, chain: Chain, x: str, rank: int, product: str) -> str:
        """Give `product` the leading dimensions of 1 that a weight of this rank would give it.

        That is the shape [1, ..., rows of x, N], or [1, ..., N] where x is a vector.
        """
        ints = self._placed.integers
        rows = chain.add("Slice", chain.add("Shape", x), ints(-2), ints(-1))
        shape = chain.add("Concat", ints(*[1] * (rank - 2)), rows, ints(1), axis=0)
        return chain.add("Expand", product, shape)

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
        weight = _matrix(weight)
        value, scale, zero = self._placed.matrix(weight, turn, factor(node, "alpha"))
        if turn and self._placed.is_tied(weight, 1):  # onnxruntime turns a constant once, at load
            key = ("turned", weight.key, str(weight.dims))
            own = Chain(chain.base, self._names)
            int8 = value
            value = self._made(
                key, state, own, chain.nodes, lambda c: c.add("Transpose", int8, perm=[1, 0])
            )
        return value, scale, zero


def _matrix(weight: Constant) -> Constant:
    matrix = weight.matrix
    assert matrix is not None
    return matrix


def _product(chain: Chain, x: Quantized, w: Quantized) -> str:
    """x [..., K] times w [K, N], in FP32 again; onnxruntime fuses these nodes at load."""
    (x_value, x_scale, x_zero), (w_value, w_scale, w_zero) = x, w
    scales = chain.add("Mul", x_scale, w_scale)
    integer = chain.add("MatMulInteger", x_value, w_value, x_zero, w_zero)
    return chain.add("Mul", chain.add("Cast", integer, to=TensorProto.FLOAT), scales)


def _stored_as_n_k(node: NodeProto, weight: Constant) -> bool:
    """Tell whether the weight's bytes are those of [N, K], so that [K, N] is their transpose."""
    return bool(attribute(node, "transB", 0)) != weight.transposed
