"""A weight on its way to FP16, and whether FP16 can hold it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from onnx import TensorProto

from ..model.tensor_blocks import F32, Block, Files, Weight
from ..model.weights import SHORTEST_ROW, Constant, is_worth, rows
from .int8 import Buffer, in_order, not_finite

# FP16 (IEEE 754 binary16) has values up to LARGEST, and all of its 11 bits from SMALLEST on. Below
# it is off by up to 2^-25: by 2^-11 of a row's largest value at most, where that is SMALLEST.
LARGEST, SMALLEST = 65504.0, 2.0**-14


def halves(weight: Constant) -> bool:
    """Tell whether a stored weight is smaller in FP16."""
    return is_worth(weight) and weight.tensor.data_type == TensorProto.FLOAT


def chunks(weight: Weight) -> Callable[[ThreadPoolExecutor], Iterator[Buffer]]:
    """The bytes of a weight in FP16, each value rounded to the nearest one."""

    def rounded(block: Block) -> Buffer:
        return weight.read(block).astype("<f2").tobytes()

    return lambda pool: in_order(pool, rounded, weight.blocks())


class Ranges:
    """Says which weights FP16 cannot hold. Each is read once, however often it is planned.

    Args:
        model: the graph file, beside which external data lies.
        files: handles to read the weights with.
        threads: threads that read.
    """

    def __init__(self, model: Path, files: Files, threads: int) -> None:
        self._model, self._files, self._threads = model, files, threads
        self._known: dict[str, str] = {}

    def why_not(self, weight: Constant) -> str:
        """Return why a stored weight stays in FP32, or nothing.

        A row or column whose largest value is below SMALLEST would lose more than its last bits,
        as a small one beside large ones does not.

        Raises:
            ModelOpsError: it holds NaN or Inf, or cannot be read.
        """
        if weight.key not in self._known:
            self._known[weight.key] = self._look(weight)
        return self._known[weight.key]

    def _look(self, weight: Constant) -> str:
        largest, *lines = self._largest(weight)
        if not math.isfinite(whole := float(largest.max(initial=0))):
            raise not_finite(weight.tensor.name)
        if whole > LARGEST:
            return f"it has the value {whole:.4g}, and FP16 ends at {LARGEST:.0f}"
        used = [line[line > 0] for line in lines]
        least = min((float(line.min()) for line in used if len(line)), default=1.0)
        if least < SMALLEST:
            return f"it has a row or column of values up to {least:.4g}, which FP16 would round off"
        return ""

    def _largest(self, weight: Constant) -> list[F32]:
        """Return the largest size of the whole, of each row and, of a matrix, of each column.

        Rows and columns of less than SHORTEST_ROW values are left out.
        """
        leading = rows(weight)
        shape = math.prod(weight.dims[:leading]), math.prod(weight.dims[leading:])
        source = Weight(weight.tensor, shape, self._model, self._files)
        of_rows, of_columns = (np.zeros(count, np.float32) for count in shape)

        def look(block: Block) -> tuple[Block, F32, F32]:
            x = source.read(block)
            np.abs(x, out=x)
            return block, x.max(axis=1), x.max(axis=0)

        with ThreadPoolExecutor(self._threads) as pool:
            for block, by_row, by_column in in_order(pool, look, source.blocks()):
                for line, start, part in (
                    (of_rows, block.row, by_row),
                    (of_columns, block.column, by_column),
                ):
                    seen = line[start : start + len(part)]
                    np.maximum(seen, part, out=seen)
        result = [of_rows]
        if shape[1] >= SHORTEST_ROW:
            result.append(of_rows)
        if shape[0] >= SHORTEST_ROW and weight.matrix is not None:
            result.append(of_columns)
        return result
