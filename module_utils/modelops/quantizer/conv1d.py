"""A convolution over time as a product with a matrix: its windows become rows (im2col)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto

from ..model.weights import Constant, Derived, attribute

_TO_THE_END = 2**63 - 1


@dataclass(frozen=True)
class Windows:
    """The windows of a Conv over time, in steps.

    Attributes:
        kernel: values that a window has of each channel.
        stride: from one window to the next.
        dilation: from one value of a window to the next.
        before: of zeros before the first step.
        after: of zeros behind the last one.
    """

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    def slices(self) -> Iterator[tuple[int, int]]:
        """Yield where the first values of all windows begin and end, the second values, and so on.

        An end counts from the end of the padded steps.
        """
        for index in range(self.kernel):
            left = self.dilation * (self.kernel - 1 - index)
            yield index * self.dilation, -left if left else _TO_THE_END


def windows(node: NodeProto, weight: Constant) -> Windows | None:
    """Return the windows of a Conv; None when it is no product of one matrix.

    That is one over images, one with groups, one whose weight is made by nodes, and one whose
    padding follows from the number of steps.
    """
    known = len(weight.dims) == 3 and not isinstance(weight, Derived)
    if node.op_type != "Conv" or not known or attribute(node, "group", 1) != 1:
        return None
    kernel = weight.dims[2]
    stride, dilation = _only(node, "strides"), _only(node, "dilations")
    before, after = _pair(node)
    padding = attribute(node, "auto_pad", b"NOTSET")
    if padding in (b"SAME_UPPER", b"SAME_LOWER"):
        if stride != 1:
            return None
        both = dilation * (kernel - 1)
        less, more = both // 2, both - both // 2
        before, after = (less, more) if padding == b"SAME_UPPER" else (more, less)
    elif padding == b"VALID":
        before, after = 0, 0
    return Windows(kernel, stride, dilation, before, after)


def _only(node: NodeProto, name: str) -> int:
    values = attribute(node, name, [1])
    assert isinstance(values, list)
    return int(values[0])


def _pair(node: NodeProto) -> tuple[int, int]:
    values = attribute(node, "pads", [0, 0])
    assert isinstance(values, list)
    return int(values[0]), int(values[1])
