"""Which node gets which form, and the quantized graph that follows from it. No weight is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from ..model.follow import follow
from ..model.learned import NOTHING, Learned
from ..model.locate import locate
from ..model.loop_weights import capture
from ..model.tensor_blocks import Files
from ..model.walk import all_graphs, all_names, is_external, names_read, subgraphs
from ..model.weights import (
    DERIVING,
    Constant,
    Derived,
    derived,
    initializers,
    without_dead_constants,
)
from .activations import Shapes, extra_bytes
from .data_file import Layout, Segment, constant, copied
from .form_sizes import FormSizes
from .forms import CONTRIB, Emitter
from .half import Ranges, halves
from .int8 import require_finite
from .nodes import GraphState, ranks
from .operators import IN_HALF, WEIGHTS
from .recipe import EXCLUDED, MEMORY, Decision, Recipe, shown
from .recipes import (
    BLOCKWISE,
    BLOCKWISE4,
    DYNAMIC,
    FP32,
    HALF,
    HALF_ROWS,
    HALVES,
    IN_BLOCKS,
    PER_CHANNEL,
    ROWS,
    UNPACKED,
    WEIGHT_ONLY,
)  # fmt: skip
from .rule import AS_ASKED, Rule, leading, pays, sum_and_channels, weights_of
from .unpacking import Unpacking

# The time of a product by FP32's, from the table of tests/bench/forms.py: 1024 x 1024, 128 rows. It
# only ranks mixes in reports; what a model really takes is measured on the target.
COST = dict.fromkeys((WEIGHT_ONLY, ROWS, FP32, *HALVES), 1.0)
COST |= {DYNAMIC: 0.3, BLOCKWISE: 0.6, BLOCKWISE4: 0.6}
# Kept initializers up to this many bytes stay in the graph file, where shape inference sees them.
INLINE_BYTES = 1024


class Plan:
    """A model's graph rewritten to INT8, and the layout of its data file.

    Args:
        model: the graph as read; it is rewritten in place.
        source: its graph file, beside which external data lies.
        layout: where the data goes.
        recipe: what to do.
        files: handles to read the weights with.
        ranges: says which weights FP16 can hold.
        scratch: folder for scratch files; None takes the system's.
        shapes: of the model's values, see activations.shapes.
        probe: make the model that quality.rank runs instead: every quantized node stays in FP32,
            in the outermost graph its INT8 form stands beside it, and the outputs are the sums of
            the squared error and of the squared reference.
        learned: by the plans before this one, see learned.settled.

    Attributes:
        layout: the data file.
        decisions: every node that holds a weight, in graph order.
        sizes: what the weights of each form take, see form_sizes.
        probes: with `probe`, each node and the names of its two outputs, empty within subgraphs.
        learned: what those plans and this one found out; with `probe` nothing new.
        graph_bytes: the graph file, equal for equal input.
    """

    @property
    def forms(self) -> set[str]:
        """Return the forms that some node has."""
        return {decision.form for decision in self.decisions}

    def __init__(
        self,
        model: ModelProto,
        source: Path,
        layout: Layout,
        recipe: Recipe,
        files: Files,
        ranges: Ranges,
        scratch: Path | None,
        *,
        probe: bool = False,
        learned: Learned = NOTHING,
        shapes: Shapes | None = None,
    ) -> None:
        self._shapes = shapes or {}
        opset = _opset(model)
        self._probe = probe
        self.probes: list[tuple[str, str, str]] = []
        self.layout = layout
        self._functions = {(f.domain, f.name) for f in model.functions}
        self._checked: set[str] = set()
        self.decisions: list[Decision] = []
        self.sizes = FormSizes()
        self._source = source
        self._before = learned
        inputs = {value.name for value in model.graph.input}
        # Values that are made of weights that a caller may give: the names of these.
        self._given = {t.name: t.name for t in model.graph.initializer if t.name in inputs}
        self._emitter = Emitter(
            self.layout, all_names(model), source, files, scratch,
            per_channel=recipe.granularity == PER_CHANNEL, learned=learned,
            given=_tensor_input(model.graph, self._given),
        )  # fmt: skip
        self._rule = Rule(recipe, recipe.excluded(model), opset, learned, self._given, ranges)
        self._unpacking = Unpacking(source)
        self._in_fp32: set[str] = set()  # keys of constants that are read as they were
        self._rewrite(model.graph, {}, "")
        self._begin_with(model.graph, self._emitter.first)
        self.learned = learned if probe else self._learned(recipe)
        if not self.decisions:
            self.decisions += _without_weights(model.graph)
        if probe:
            del model.graph.output[:]
            for name in (name for _, *pair in self.probes for name in pair if name):
                output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [])
                model.graph.output.append(output)
        self._keep_rest(model)
        model.graph.initializer.extend(self._emitter.tensors)
        if any(n.domain == CONTRIB for graph in all_graphs(model.graph) for n in graph.node):
            _require_domain(model, CONTRIB, 1)
        if not model.producer_name:  # an exporter's name and version stay
            model.producer_name, model.producer_version = "modelops", ""
        self.graph_bytes: bytes = model.SerializeToString(deterministic=True)

    def _learned(self, recipe: Recipe) -> Learned:
        """Return what is known now; memory comes last, when it is known what saves on disk."""
        learned = self._emitter.learned(self._in_fp32)
        if learned == self._before and recipe.prefer == MEMORY:
            # One after the other: what is learned first changes what the next one counts.
            if wide := self._unpacking.too_wide():
                learned |= Learned(wide=wide)
            elif heavy := self._unpacking.too_heavy():
                learned |= Learned(heavy=heavy)
            else:
                learned |= Learned(halved=self._unpacking.too_small())
        return learned

    @property
    def bytes(self) -> int:
        """The size of the graph and of all that it reads."""
        return self.layout.content_bytes + len(self.graph_bytes)

    @property
    def predicted_cost(self) -> float:
        """The time of all products with constant matrices, by FP32's, as COST expects it."""
        whole = sum(decision.elements for decision in self.decisions)
        cost = sum(decision.elements * COST[decision.form] for decision in self.decisions)
        return round(cost / whole, 3) if whole else 1.0

    def _rewrite(self, graph: GraphProto, outer: Mapping[str, Constant], scope: str) -> None:
        """Rewrite a graph and those nested in it; `outer` are the constants seen from outside."""
        # What a graph names itself hides the outer value of that name.
        own = {value.name for value in graph.input}
        own.update(name for node in graph.node for name in node.output)
        seen = {
            name: constant
            for name, constant in outer.items()
            if name not in own and not isinstance(constant, Derived)  # it may read hidden names
        }
        constants = {**seen, **initializers(graph, scope, self._before)}
        state = GraphState(outermost=not scope, ranks=ranks(graph))
        nodes: list[NodeProto] = []
        givers: dict[int, list[Decision]] = {}  # the nodes that give out constants, by id
        first = len(self.decisions)
        for index, node in enumerate(graph.node):
            for copy in capture(node, constants):
                constants[copy.output[0]] = constants[copy.input[0]]
                givers[id(copy)] = []
                nodes.append(copy)
            for branch, inner in enumerate(subgraphs(node)):
                self._rewrite(inner, constants, f"{scope}/{index}.{branch}")
            shown = follow(node, constants, scope, self._before)
            if shown is not None:
                constants[node.output[0]] = shown
                givers[id(node)] = []
                nodes.append(node)
                continue
            before = len(self.decisions)
            nodes.extend(self._rewrite_node(node, constants, state))
            origin = next((self._given[name] for name in node.input if name in self._given), None)
            if origin and node.op_type in DERIVING:
                self._given |= dict.fromkeys(node.output, origin)
            found = derived(node, constants)
            constants.update(found)
            if found:
                givers[id(node)] = self.decisions[before:]
        kept = without_dead_constants(nodes, graph, givers)
        dead = givers.keys() - {id(node) for node in kept}
        gone = {id(decision) for key in dead for decision in givers[key]}
        self.decisions[first:] = [d for d in self.decisions[first:] if id(d) not in gone]
        self._emitter.name_apart(kept)
        del graph.node[:]
        graph.node.extend(kept)
        self._drop_unread(graph, scope)
        values = [node.output[0] for node in kept if node.op_type == "Constant"]
        self._in_fp32.update(constants[name].key for name in values if name in constants)

    @staticmethod
    def _begin_with(graph: GraphProto, first: list[NodeProto]) -> None:
        """Put nodes that read initializers only before those that a graph has."""
        rest = list(graph.node)
        del graph.node[:]
        graph.node.extend([*first, *rest])

    def _drop_unread(self, graph: GraphProto, scope: str) -> None:
        """Drop the initializers that nothing reads any more; a graph input may override others."""
        read = names_read(graph) | {value.name for value in graph.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        self._in_fp32.update(f"{scope}/{tensor.name}" for tensor in kept)
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _rewrite_node(
        self, node: NodeProto, constants: Mapping[str, Constant], state: GraphState
    ) -> list[NodeProto]:
        if (node.domain, node.op_type) in self._functions:
            reason = "it calls a function of another opset, which stays as it is"
            self.decisions.append(Decision(shown(node), node.op_type, FP32, reason, ""))
            return [node]
        held = weights_of(node, constants)
        if not held and node.op_type not in WEIGHTS:
            return [node]
        form, reason = self._rule.decide(node, held)
        name = shown(node)
        stored = dict.fromkeys(part.tensor.name for _, weight in held for part in weight.stored)
        is_matrix = held and self._rule.is_matrix(node, *held[0])
        matrix = sum_and_channels(node, held[0][1]) if is_matrix else None
        shapes = tuple(weight.dims for _, weight in held)
        decision = Decision(name, node.op_type, form, reason, ", ".join(stored), matrix, shapes)
        self.decisions.append(decision)
        if reason != EXCLUDED and node.op_type in WEIGHTS:  # Inf in a mask that is added is right
            self._checked.update(stored)
        weights = [weight for _, weight in held]
        if form == FP32:
            self.sizes.add(form, weights, 0)
            return [node]
        self._count(form, reason, node, held)
        if not self._probe:
            before, small = self.layout.content_bytes, len(self._emitter.tensors)
            nodes = self._emit(form, node, held, state)
            inline = sum(len(tensor.raw_data) for tensor in self._emitter.tensors[small:])
            self.sizes.add(form, weights, self.layout.content_bytes - before + inline)
            return nodes
        if not state.outermost or not node.output[0]:
            self.probes.append((name, "", ""))
            return [node]
        nodes, error, whole = self._emitter.probed(
            node, held[0][1], state, lambda own: self._emit(form, own, held, state)
        )
        self.probes.append((name, error, whole))
        return nodes

    def _count(
        self, form: str, reason: str, node: NodeProto, held: list[tuple[int, Constant]]
    ) -> None:
        """Count what a form takes of the memory; forms that were asked for are not judged by it."""
        weight, asked = held[0][1], reason == AS_ASKED
        if form not in UNPACKED | HALVES:
            self._unpacking.stays(weight)
        if form == DYNAMIC and not asked:
            self._unpacking.runs(node.output[0], extra_bytes(node, weight, self._shapes))
        for _, part in held if form in UNPACKED and not asked else ():
            if form == HALF:
                self._unpacking.halves(node.op_type, part)
            else:
                self._unpacking.unpacks(part)

    def _emit(
        self, form: str, node: NodeProto, held: list[tuple[int, Constant]], state: GraphState
    ) -> list[NodeProto]:
        """The nodes that stand for a node in a form."""
        weight = held[0][1]
        if form == DYNAMIC and node.op_type == "LSTM":
            return self._emitter.lstm(node, held)
        if form == DYNAMIC and node.op_type == "Conv":
            return self._emitter.convolution(node, weight, state)
        if form == DYNAMIC:
            return self._emitter.dynamic(node, weight, state)
        if form in IN_BLOCKS:
            return self._emitter.blockwise(node, weight, state, 4 if form == BLOCKWISE4 else 8)
        if form in (ROWS, HALF_ROWS):
            return self._emitter.gather_rows(node, weight, in_half=form == HALF_ROWS)
        if form == HALF:
            smaller = [(i, w, IN_HALF) for i, w in held if any(map(halves, w.stored))]
            return self._emitter.weight_only(node, smaller, state)
        channels = [(i, w, leading(node, i, w)) for i, w in held if pays(node, i, w)]
        return self._emitter.weight_only(node, channels, state)

    def _keep_rest(self, model: ModelProto) -> None:
        """Copy what is still read as it is to the data file."""
        for graph in all_graphs(model.graph):
            kept = [self._keep(tensor) for tensor in graph.initializer]
            del graph.initializer[:]
            graph.initializer.extend(kept)

    def _keep(self, tensor: TensorProto) -> TensorProto:
        dims = tuple(tensor.dims)
        checked = tensor.name if tensor.name in self._checked else ""
        if is_external(tensor):
            extent = locate(tensor, self._source)
            chunks, length = copied(extent, tensor.data_type, checked), extent.length
            if length <= INLINE_BYTES:
                # Shape inference needs the values of small tensors, and cannot read them elsewhere.
                raw = b"".join(bytes(chunk) for chunk in chunks(None))
                return TensorProto(
                    name=tensor.name, data_type=tensor.data_type, dims=dims, raw_data=raw
                )
            content = ("kept", str(extent.path), extent.offset, length)
            kept = Segment(tensor.name, tensor.data_type, dims, length, chunks, content, extent)
            return self.layout.add(kept)
        raw = tensor.raw_data
        if checked:
            require_finite(raw, tensor.data_type, checked)
        if len(raw) <= INLINE_BYTES:
            return tensor
        kept = Segment(tensor.name, tensor.data_type, dims, len(raw), constant(raw))
        return self.layout.add(kept)


def _tensor_input(graph: GraphProto, optional: Collection[str]) -> str:
    """Return the name of an input that is a tensor and must be given; nothing without one."""
    inputs = (v.name for v in graph.input if v.type.HasField("tensor_type"))
    return next((name for name in inputs if name not in optional), "")


def _without_weights(graph: GraphProto) -> list[Decision]:
    """Say of every node of a model without weights why it stays."""
    reason = "it holds no weight"
    nodes = (node for inner in all_graphs(graph) for node in inner.node)
    return [Decision(shown(n), n.op_type, FP32, reason, "") for n in nodes]


def _opset(model: ModelProto) -> int:
    domains = {node.domain for graph in all_graphs(model.graph) for node in graph.node}
    if not domains & {"", "ai.onnx"}:
        _require_domain(model, "", 13)  # the forms' own nodes are of it
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def _require_domain(model: ModelProto, domain: str, version: int) -> None:
    if all((opset.domain or "ai.onnx") != (domain or "ai.onnx") for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(domain, version))
