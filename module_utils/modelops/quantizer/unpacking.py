"""The memory that INT8 takes beyond FP32's: of weights unpacked at load, and of activations."""

from __future__ import annotations

import math

from ..model.checks import ITEM_BYTES
from ..model.weights import Constant, is_worth
from .operators import PRODUCTS

# onnxruntime 1.32 folds Cast and Mul of a constant at load, and holds the INT8 values (1 byte) and
# what Cast gave (4) beside the result (4), which FP32 has alone. Measured by `python -m modelops
# benchmark` on models of one operator with 70 MB of weights: 4.5 bytes a value for GRU, 6 for
# ConvTranspose, 7 for Conv over images and small matrices.
EXTRA = 5
# A Cast alone leaves the FP32 values, which the file's own pages hold otherwise. Conv over images
# copies them into another order and holds both: 3.5 bytes a value. Products copy one matrix after
# the other, 2 to 4 of the largest are held: nothing that grows with the model. GRU, ConvTranspose
# and LSTM took 0.2 to 1.1.
EXTRA_HALF = {"Conv": 4, "FusedConv": 4} | dict.fromkeys(PRODUCTS, 0)
# Up to here it is not worth a weight four times as large on disk: Python, numpy and onnxruntime
# take 60 MB before the first weight, and the models of tests/bench/real_models.py show nothing.
UNSEEN_BYTES = 32_000_000
# What activations may take: 5 % of those 60 MB, below what one process differs from the next by.
UNSEEN_ACTIVATION_BYTES = 3_000_000


class Unpacking:
    """What the forms of a plan take and save, by the key of the stored weight."""

    def __init__(self) -> None:
        self._activations: dict[str, int] = {}  # by the node's first output
        self._extra: dict[str, int] = {}
        self._saved: dict[str, int] = {}

    def unpacks(self, weight: Constant, extra: int = EXTRA) -> None:
        """Count a weight that takes `extra` bytes a value more than in FP32."""
        for part in weight.stored:
            if is_worth(part):
                self._extra[part.key] = math.prod(part.dims) * extra

    def halves(self, op: str, weight: Constant) -> None:
        """Count a weight of `weight_fp16` that a node with this operator reads."""
        self.unpacks(weight, EXTRA_HALF.get(op, 1))

    def stays(self, weight: Constant) -> None:
        """Count a weight that is INT8 in memory too; up to 1/16 of its values are scales."""
        elements = math.prod(weight.dims)
        saved = elements * (ITEM_BYTES[weight.tensor.data_type] - 1) - elements // 4
        self._saved[weight.key] = max(0, saved)

    def runs(self, value: str, extra: int) -> None:
        """Count the activations of a product in INT8; `value` is what it gives."""
        self._activations[value] = extra

    def too_wide(self) -> frozenset[str]:
        """Return what products give whose activations alone take more than all weights save."""
        room = sum(self._saved.values()) + UNSEEN_ACTIVATION_BYTES
        return frozenset(value for value, size in self._activations.items() if size > room)

    def too_heavy(self) -> frozenset[str]:
        """Return the keys of the weights for which nothing is left of what the others save."""
        extra = {key: size for key, size in self._extra.items() if key not in self._saved}
        if sum(extra.values()) <= UNSEEN_BYTES:
            return frozenset()
        left, heavy = sum(self._saved.values()), set()
        for key, size in extra.items():
            if size > left:
                heavy.add(key)
            else:
                left -= size
        return frozenset(heavy)
