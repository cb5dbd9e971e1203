"""Which form a node takes, and why: the one place where forms are chosen."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from onnx import NodeProto, TensorProto

from ..model.checks import is_known
from ..model.learned import Learned
from ..model.weights import Constant, Derived, attribute, is_worth, rows, saves, shrinks
from .conv1d import windows
from .fused import ACTIVATIONS, activation
from .half import Ranges, halves
from .operators import BY_ROWS, FUSED, LAST, PRODUCTS, WEIGHTS
from .recipe import EXCLUDED, Recipe, shown
from .recipes import (
    BLOCKWISE,
    BLOCKWISE4,
    DYNAMIC,
    FP16,
    FP32,
    HALF,
    HALF_ROWS,
    HALVES,
    IN_BLOCKS,
    INT4,
    ROWS,
    WEIGHT_ONLY,
)  # fmt: skip

# The rule on shapes. A matrix is multiplied in INT8 from this size on. Below it is stored as INT8
# and multiplied in FP32: quantizing the activation costs more than it saves. The measurement is
# tests/bench/forms.py (docs/benchmarks.md): with AVX-512 VNNI INT8 was 1.4 times faster and more at
# any number of rows from 256 x 256 on, and takes 0.6 of FP32's memory, a stored weight up to twice.
DYNAMIC_ELEMENTS, DYNAMIC_SIDE = 256 * 256, 64
# MatMulInteger adds K products up in INT32. Each is at most 255 (an unsigned value and its zero
# point, apart) times 127 (a symmetric weight): 66,311 of them are sure to stay below 2^31.
LONGEST_SUM = (2**31 - 1) // (255 * 127)
# Attributes of FusedMatMul for which its product has no INT8 form.
TURNING = ("transA", "transBatchA", "transBatchB")
# A Conv over time and an LSTM likewise, from this size of each weight and 64 channels on: at 128 x
# 128 x 3 a Conv was 1.5 to 2.3 times faster at 4 to 2,048 steps, an LSTM with 128 cells 1.1 to 7.
SEQUENCE_ELEMENTS, SEQUENCE_SIDE = 48 << 10, 64
# A Conv's matrix is turned as a whole.
WHOLE_ELEMENTS = 16 << 20
LSTM_ATTRIBUTES = {
    "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size",
    "input_forget", "layout",
}  # fmt: skip
# A node of any other operator is listed when it holds a matrix of at least this many elements.
LISTED_ELEMENTS = 256
AS_ASKED = "the recipe's forms say so"
SMALL = "a small weight in the graph file takes less memory to unpack from FP16 than from INT8"
TOO_WIDE = "so many steps in INT8 would take more memory than its weights save"

Held = list[tuple[int, Constant]]  # the inputs of a node that are weights, the main one first


class Rule:
    """Chooses forms by operator and shape, as far as the recipe names none.

    Args:
        recipe: what the caller asks for.
        excluded: the names of the nodes that stay in FP32.
        opset: of the model, 0 where it has none.
        learned: by the plans before.
        given: values that are made of weights which a caller may give, and the names of these.
            The plan adds to them while it goes through the graph.
        ranges: says which weights FP16 can hold.
    """

    def __init__(
        self,
        recipe: Recipe,
        excluded: Collection[str],
        opset: int,
        learned: Learned,
        given: Mapping[str, str],
        ranges: Ranges,
    ) -> None:
        self._ranges, self._called = ranges, recipe.name.upper()
        self._recipe, self._excluded, self._opset = recipe, excluded, opset
        self._before, self._given = learned, given

    def decide(self, node: NodeProto, held: Held) -> tuple[str, str]:
        """Return the form of a node and the reason."""
        if reason := self._why_no_form(node, held):
            return FP32, reason
        wanted = self._recipe.forms.get(shown(node), HALF if self._recipe.name == FP16 else "")
        if wanted in HALVES:
            return self._half(node, held)
        return self._smaller(node, held, wanted)

    def _smaller(self, node: NodeProto, held: Held, wanted: str) -> tuple[str, str]:
        """Return the form and the reason where a weight gets scales; `wanted` may be empty."""
        index, weight = held[0]
        gains = any(pays(node, i, w) for i, w in held)
        if not gains and (needed := _names(weight, self._before.in_fp32)):
            return FP32, self._why_added(needed)
        if self._can_be(wanted, node, held):
            return wanted, AS_ASKED
        if not gains:
            return FP32, self._why_no_gain(weight)
        if wanted == WEIGHT_ONLY:
            return wanted, AS_ASKED
        is_matrix = self.is_matrix(node, index, weight)
        form, reason = self._of_matrix(node, weight) if is_matrix else self._of_other(node, held)
        if form == WEIGHT_ONLY and self._fits_better(held):
            return HALF, SMALL
        return form, reason

    def _fits_better(self, held: Held) -> bool:
        """Tell whether FP16 can hold a node's weights, and takes less memory than INT8."""
        parts = [part for _, weight in held for part in weight.stored if halves(part)]
        small = all(part.key in self._before.halved for part in parts)
        return bool(parts) and small and not any(map(self._ranges.why_not, parts))

    def is_matrix(self, node: NodeProto, index: int, weight: Constant) -> bool:
        """Tell whether a weight is the right operand [K, N] of a product that has INT8 forms.

        Leading dimensions of 1 are left out, and given back to the result: that takes a Slice of
        opset 10. FusedMatMul that turns x, or its stack, may have x of any rank.
        """
        op = node.op_type
        if op not in PRODUCTS or index != 1 or weight.matrix is None:
            return False
        if len(weight.dims) > 2 and (op not in ("MatMul", "FusedMatMul") or self._opset < 10):
            return False
        turned = any(attribute(node, name, 0) for name in TURNING)
        return activation(node) in ACTIVATIONS and not (op == "FusedMatMul" and turned)

    def _why_no_form(self, node: NodeProto, held: Held) -> str:
        """Return why a node stays in FP32 whatever its weight's size is, or nothing."""
        if not held:
            return self._why_no_weight(node)
        op, weight = node.op_type, held[0][1]
        if op not in WEIGHTS or not is_known(node):
            return f"{op} has no {self._called} form"
        if FUSED.get(op, op) not in self._recipe.op_types:
            return f"op_types does not name {FUSED.get(op, op)}"
        if shown(node) in self._excluded:
            return EXCLUDED
        if not weight.is_float:
            kind = TensorProto.DataType.Name(weight.tensor.data_type)
            return f"its weight is {kind}, which has no {self._called} form here"
        return "" if all(math.prod(w.dims) for _, w in held) else "its weight is empty"

    def _why_no_weight(self, node: NodeProto) -> str:
        for index in WEIGHTS[node.op_type]:
            if index < len(node.input) and (name := self._given.get(node.input[index])):
                return (
                    f"its weight {name} is a graph input too, so a caller may give another one:"
                    " fold_inputs: true makes a constant of it"
                )
        return "it has no constant weight: its operands are computed or given"

    def _half(self, node: NodeProto, held: Held) -> tuple[str, str]:
        """Return the form and the reason where FP16 is wanted."""
        parts = [part for _, weight in held for part in weight.stored]
        smaller = [part for part in parts if halves(part)]
        if not smaller:
            return FP32, self._why_not_half(held[0][1])
        for part in smaller:
            if why_not := self._ranges.why_not(part):
                return FP32, f"{part.tensor.name} stays in FP32: {why_not}"
        form = HALF_ROWS if _gathers_rows(node, held[0][1]) else HALF
        asked = self._recipe.forms.get(shown(node)) == form
        reason = "embedding rows" if form == HALF_ROWS else "FP32 again when a session is made"
        return form, AS_ASKED if asked else reason

    def _why_not_half(self, weight: Constant) -> str:
        if needed := _names(weight, self._before.in_fp32):
            return self._why_added(needed)
        if weight.tensor.data_type != TensorProto.FLOAT:
            return f"{weight.tensor.name} is stored in half precision already"
        return self._why_no_gain(weight)

    def _why_added(self, needed: str) -> str:
        return f"{needed} is needed in FP32 too, so {self._called} would only be added"

    def _why_no_gain(self, weight: Constant) -> str:
        """Return why INT8 or FP16 would not make a weight smaller."""
        if larger := _names(weight, self._before.larger):
            return f"the {self._called} copies of {larger} would take more than it does"
        if heavy := _names(weight, self._before.heavy):
            return f"unpacking {heavy} at load would take more memory than FP32 (prefer: size does)"
        if any(map(is_worth, weight.stored)):
            return f"a scale for so few values of {list(weight.shape)} takes what INT8 saves"
        return f"its weight {list(weight.shape)} is too small to gain from {self._called}"

    def _of_matrix(self, node: NodeProto, weight: Constant) -> tuple[str, str]:
        if math.prod(weight.dims) < DYNAMIC_ELEMENTS or min(weight.dims[-2:]) < DYNAMIC_SIDE:
            return WEIGHT_ONLY, f"{list(weight.shape)} is too small to be faster in INT8"
        if self._recipe.name == INT4:
            return BLOCKWISE4, f"matrix {list(weight.shape)}, 4 bits a value and a scale a block"
        if self._opset < 11:
            return WEIGHT_ONLY, f"opset {self._opset} has no DynamicQuantizeLinear"
        if node.output[0] in self._before.wide:
            return WEIGHT_ONLY, TOO_WIDE
        if (length := sum_and_channels(node, weight)[0]) > LONGEST_SUM:
            return BLOCKWISE, f"an INT32 sum of {length:,} products may overflow, a block's cannot"
        return DYNAMIC, f"matrix {list(weight.shape)}, large enough to be faster in INT8"

    def _can_be(self, wanted: str, node: NodeProto, held: Held) -> bool:
        """Tell whether a node can have a form that the recipe names, whatever INT8 saves there."""
        if wanted == FP32:
            return True
        index, weight = held[0]
        if not self.is_matrix(node, index, weight):
            return wanted == DYNAMIC and not self._why_no_product(node, held)
        short = 0 < sum_and_channels(node, weight)[0] <= LONGEST_SUM
        return wanted in IN_BLOCKS or (wanted == DYNAMIC and short)

    def _of_other(self, node: NodeProto, held: Held) -> tuple[str, str]:
        """Return the form and the reason where no input is the right operand of a product."""
        op, weight = node.op_type, held[0][1]
        if _gathers_rows(node, weight):
            return ROWS, "embedding rows, a scale a row"
        if op == "Gather" and not isinstance(weight, Derived):
            return WEIGHT_ONLY, "it gathers along another axis than the rows"
        if why_not := self._why_no_product(node, held):
            return WEIGHT_ONLY, why_not
        if node.output[0] in self._before.wide:
            return WEIGHT_ONLY, TOO_WIDE
        if (
            any(math.prod(w.dims) < SEQUENCE_ELEMENTS for _, w in held)
            or _side(op, weight) < SEQUENCE_SIDE
        ):
            return WEIGHT_ONLY, f"{list(weight.shape)} is too small to be faster in INT8"
        return DYNAMIC, f"{op} over time, large enough to be faster in INT8"

    def _why_no_product(self, node: NodeProto, held: Held) -> str:
        """Return why a node other than a matrix product cannot be multiplied in INT8."""
        op, weight = node.op_type, held[0][1]
        turned = op not in PRODUCTS and any(inner.transposed for _, inner in held)
        if turned or any(isinstance(inner, Derived) for _, inner in held):
            return "its weight is made from stored ones, whose size shrinks"
        if op in PRODUCTS:
            if held[0][0] == 1 and weight.matrix is not None:
                return f"there is no INT8 form of what {op} does beside the product"
            return "the weight is a stack of matrices or the left operand"
        if op in ("Einsum", "EmbedLayerNormalization"):
            return f"{op} has no INT8 operator, so only its size shrinks"
        if op not in ("Conv", "LSTM"):
            return f"INT8 makes {op} slower, so only its size shrinks"
        if self._opset < 11:
            return f"opset {self._opset} has no DynamicQuantizeLinear"
        return _why_no_lstm(node, held) if op == "LSTM" else _why_no_conv(node, weight)


def _gathers_rows(node: NodeProto, weight: Constant) -> bool:
    """Tell whether a node gathers rows of a stored weight, so that only these need be unpacked."""
    if node.op_type != "Gather" or isinstance(weight, Derived) or weight.transposed:
        return False
    return attribute(node, "axis", 0) in (0, -len(weight.dims))


def _why_no_conv(node: NodeProto, weight: Constant) -> str:
    """Return why a product of windows cannot stand for a Conv."""
    if windows(node, weight) is None:
        return "INT8 makes a Conv slower over images or with groups, so only its size shrinks"
    if weight.dims[1] * weight.dims[2] > LONGEST_SUM:
        return "an INT32 sum of so many products may overflow"
    if math.prod(weight.dims) > WHOLE_ELEMENTS:
        return "its matrix is too large to be turned in memory"
    return ""


def _why_no_lstm(node: NodeProto, held: Held) -> str:
    """Return why DynamicQuantizeLSTM cannot stand for an LSTM."""
    if len(held) < 2 or any(weight.kind != TensorProto.FLOAT for _, weight in held):
        return "DynamicQuantizeLSTM takes FP32, and both weights as constants"
    odd = sorted({a.name for a in node.attribute} - LSTM_ATTRIBUTES)
    if odd or attribute(node, "layout", 0):
        return f"DynamicQuantizeLSTM does not know {', '.join(odd) or 'layout 1'}"
    return ""


def _side(op: str, weight: Constant) -> int:
    """Return the smaller number of channels of a weight [N, C, kernel] or [D, 4 N, C]."""
    return min(weight.dims[:2] if op == "Conv" else weight.dims[1:])


def weights_of(node: NodeProto, constants: Mapping[str, Constant]) -> list[tuple[int, Constant]]:
    """Return the inputs of a node that are weights, the main one first."""
    known = WEIGHTS.get(node.op_type)
    held = []
    for index in known if known is not None else range(len(node.input)):
        found = constants.get(node.input[index]) if index < len(node.input) else None
        if found is None:
            continue
        large_matrix = len(found.dims) > 1 and math.prod(found.dims) >= LISTED_ELEMENTS
        if known is not None or (found.is_float and large_matrix):
            held.append((index, found))
    # Both operands of a product constant: one is enough to say what it holds.
    return held[:1] if node.op_type in PRODUCTS else held


def _names(weight: Constant, keys: Collection[str]) -> str:
    """Return the names of those stored tensors of a weight whose keys are among these."""
    return ", ".join(part.tensor.name for part in weight.stored if part.key in keys)


def sum_and_channels(node: NodeProto, weight: Constant) -> tuple[int, int]:
    """Return how many products a value of a product adds up, and its output channels: K and N."""
    k, n = weight.shape[-2:]
    return (n, k) if attribute(node, "transB", 0) else (k, n)


def leading(node: NodeProto, index: int, weight: Constant) -> int:
    """Return which dimensions of the stored weight are its output channels."""
    leads = WEIGHTS[node.op_type][index]
    if leads == BY_ROWS:
        return rows(weight)
    if node.op_type in PRODUCTS:  # [N, K] and [M, K] have a scale a row
        by_rows = attribute(node, "transB", 0) if index else not attribute(node, "transA", 0)
        leads = len(weight.dims) - 1 if by_rows else LAST
    if weight.transposed:
        leads = len(weight.dims) - 1 if leads == LAST else LAST
    return leads


def pays(node: NodeProto, index: int, weight: Constant) -> bool:
    """Tell whether a weight is smaller in INT8 with its scales."""
    if isinstance(weight, Derived):
        return any(map(shrinks, weight.stored))
    if not is_worth(weight):
        return False
    leads = leading(node, index, weight)
    values = weight.dims[-2] if leads == LAST else math.prod(weight.dims[leads:])
    return saves(weight, values)
