"""The memory that INT8 takes beyond FP32's: of weights unpacked at load, and of activations."""

from __future__ import annotations

import math
from pathlib import Path

from ..model.checks import ITEM_BYTES
from ..model.locate import is_in_graph
from ..model.weights import Constant, is_worth
from .half import halves
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
# What one process differs from the next by (docs/benchmarks.md).
UNSEEN_BYTES = 300_000
# A weight inside the graph file is in memory twice while FP32 is loaded, as protobuf and as tensor;
# in INT8 it lies in the data file. That makes up for what is unpacked of it, up to here at least:
# larger models were not measured. FP16 has little to make up for.
MADE_UP_BYTES = 32_000_000
# Not so of small ones: what Cast gave (4 bytes a value) leaves a hole in the heap between weights
# that stay, which the C library does not give back. From M_MMAP_THRESHOLD on (128 KiB, and it
# rises: twice that) it does. FP16 needs a Cast alone and leaves no hole. Measured on models of
# tests/held_out.py: it takes 2.5 to 4.8 bytes a value less than INT8.
HOLE = 4
FEW_HOLES = 500_000  # bytes: below it INT8 took 0.3 MB more than FP32 at most, which is noise
SMALL_BYTES = 256 << 10
# So much of what is unpacked may be in FP16: the files stay below 0.4 of FP32's.
MOST_IN_HALF = 0.4
# What activations may take: 5 % of those 60 MB, below what one process differs from the next by.
UNSEEN_ACTIVATION_BYTES = 3_000_000


class Unpacking:
    """What the forms of a plan take and save, by the key of the stored weight.

    Args:
        model: the graph file of the source.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._activations: dict[str, int] = {}  # by the node's first output
        self._extra: dict[str, int] = {}
        self._saved: dict[str, int] = {}
        self._values: dict[str, int] = {}  # of what is unpacked
        self._made_up: set[str] = set()  # what counts beyond MADE_UP_BYTES alone
        self._small: set[str] = set()  # what may be in FP16 in place of INT8
        self._half: set[str] = set()  # what is in FP16

    def unpacks(self, weight: Constant) -> None:
        """Count a weight of `weight_int8`."""
        for part in filter(is_worth, weight.stored):
            size = self._count(part, EXTRA)
            if is_in_graph(part.tensor, self._model):
                self._made_up.add(part.key)
                if halves(part) and size < SMALL_BYTES:
                    self._small.add(part.key)

    def halves(self, op: str, weight: Constant) -> None:
        """Count a weight of `weight_fp16` that a node with this operator reads."""
        for part in filter(is_worth, weight.stored):
            self._count(part, EXTRA_HALF.get(op, 1))
            self._made_up.add(part.key)
            self._half.add(part.key)

    def _count(self, part: Constant, extra: int) -> int:
        """Count a weight that takes `extra` bytes a value; return its bytes in the source."""
        self._values[part.key] = math.prod(part.dims)
        self._extra[part.key] = self._values[part.key] * extra
        return self._values[part.key] * ITEM_BYTES[part.tensor.data_type]

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
        if sum(extra.values()) <= MADE_UP_BYTES:
            extra = {key: size for key, size in extra.items() if key not in self._made_up}
        if sum(extra.values()) <= UNSEEN_BYTES:
            return frozenset()
        left, heavy = sum(self._saved.values()), set()
        for key, size in extra.items():
            if size > left:
                heavy.add(key)
            else:
                left -= size
        return frozenset(heavy)

    def too_small(self) -> frozenset[str]:
        """Return the keys of the small weights to store in FP16, the smallest first.

        None where the holes are few; else as many as leave more holes than all others save, up to
        MOST_IN_HALF.
        """
        values = {key: n for key, n in self._values.items() if key not in self._saved}
        small = sorted((n, key) for key, n in values.items() if key in self._small - self._half)
        left = HOLE * sum(n for n, _ in small) - sum(self._saved.values())
        room = MOST_IN_HALF * sum(values.values())
        room -= sum(n for key, n in values.items() if key in self._half)
        found = set()
        for n, key in small if left > FEW_HOLES else ():
            room -= n
            if left <= 0 or room < 0:
                break
            left -= HOLE * n
            found.add(key)
        return frozenset(found)
