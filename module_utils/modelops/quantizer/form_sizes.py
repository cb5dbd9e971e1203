"""What the weights take on disk, by the form of the node that reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..model.checks import stored_bytes
from ..model.weights import Constant
from .recipes import FP32


class FormSizes:
    """The bytes of the weights of each form, as they were and as they are stored now.

    A weight that several nodes read counts once, for the first of them.

    Attributes:
        by_form: bytes before and now, by form.
    """

    def __init__(self) -> None:
        self.by_form: dict[str, tuple[int, int]] = {}
        self._seen: set[str] = set()

    def add(self, form: str, weights: Iterable[Constant], now: int) -> None:
        """Count a node.

        Args:
            weights: what it reads.
            now: the bytes that its form stored; a weight that stays in FP32 is stored as it was.
        """
        parts = {part.key: part for weight in weights for part in weight.stored}
        new = [part for key, part in parts.items() if key not in self._seen]
        self._seen |= parts.keys()
        was = sum(_bytes(part) for part in new)
        before, after = self.by_form.get(form, (0, 0))
        self.by_form[form] = (before + was, after + (was if form == FP32 else now))


def _bytes(part: Constant) -> int:
    return stored_bytes(part.tensor.data_type, math.prod(part.tensor.dims)) or 0
