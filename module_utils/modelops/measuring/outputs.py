"""The outputs of a run, read from the memory of its process, and compared block by block.

    with Model(source, setup, work) as model:
        with opened(model.run(sample, share=True)) as reference, ...:
            rows = compare(reference, candidate, sample, candidate_path)

`opened` takes the reply of a run with `share` (or, of `take`, the chosen values) and gives Outputs.
They may outlive the model's process. The next run writes into the same memory, unless it is
`fresh`: outputs that are kept while their model runs again need that. `compare` matches by name,
refuses or marks other shapes, and gives a row an output; similarity.worst sums rows up. Nothing
goes over the disk, and of each output BLOCK elements at a time are in this process.
"""

from __future__ import annotations

import json
import mmap
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..base.errors import ModelOpsError
from .similarity import Agreement, Similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 1 << 17  # elements: both blocks in float64 fit into a processor's cache
REMEDY = "Compare a model with one made from it."


class Readable(Protocol):
    """What is needed of a file or a mapping."""

    def seek(self, position: int, /) -> Any:
        """Go to a position."""

    def read(self, count: int, /) -> bytes:
        """Return so many bytes, or what is left."""


@dataclass(frozen=True)
class Output:
    """An output.

    Attributes:
        name: of the model's output.
        dtype: numpy's name of the type of its elements; "str" for strings.
        shape: of the whole output, also where only chosen values are at hand.
        size: bytes at hand.
        source: holds them; None where there are none.
        start: the byte of the source that they begin at.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    source: Readable | None
    start: int = 0

    @property
    def is_discrete(self) -> bool:
        """Tell whether its values are equal or not, and nothing between: ids, truths, texts."""
        import numpy as np

        return self.dtype == "str" or np.dtype(self.dtype).kind in "biu"

    def blocks(self, count: int = BLOCK) -> Iterator[NDArray[Any]]:
        """Read it from its start: arrays of one dimension, of `count` elements at most."""
        import numpy as np

        if self.source is None:
            return
        if self.dtype == "str":
            self.source.seek(self.start)
            texts = json.loads(self.source.read(self.size))
            yield np.array(texts, dtype=object)
            return
        kind = np.dtype(self.dtype)
        left = self.size
        while left:
            # Two outputs may be of one file, and be read in turn: each knows its own place.
            self.source.seek(self.start + self.size - left)
            content = self.source.read(min(left, count * kind.itemsize))
            if not content:
                raise ModelOpsError(f"output {self.name!r} ends too early", remedy="Measure again.")
            left -= len(content)
            yield np.frombuffer(content, kind)

    def at(self, positions: NDArray[Any]) -> NDArray[Any]:
        """Return the values at some positions, which ascend."""
        import numpy as np

        parts, start = [], 0
        for block in self.blocks():
            first, last = np.searchsorted(positions, (start, start + block.size))
            parts.append(block[positions[first:last] - start])
            start += block.size
        return np.concatenate(parts)

    def values(self) -> NDArray[Any]:
        """Return all values at once, one-dimensional: for small outputs and chosen values."""
        import numpy as np

        dtype = object if self.dtype == "str" else self.dtype
        return np.concatenate([np.empty(0, dtype), *self.blocks()])


class Held:
    """Values that are in this process already, as those of golden data: a Readable."""

    def __init__(self, values: NDArray[Any]) -> None:
        import numpy as np

        text = values.dtype.kind in "OU"
        flat = np.ascontiguousarray(values).reshape(-1)
        raw = json.dumps(flat.tolist()).encode() if text else flat.view(np.uint8).data
        self.dtype = "str" if text else flat.dtype.name
        self.size = len(raw)
        self._raw, self._position = memoryview(raw), 0

    def seek(self, position: int, /) -> None:
        """Go to a position."""
        self._position = position

    def read(self, count: int, /) -> bytes:
        """Return so many bytes, or what is left."""
        content = self._raw[self._position : self._position + count]
        self._position += len(content)
        return bytes(content)

    def output(self, name: str, shape: Sequence[int]) -> Output:
        """Return it as an output of that name; `shape` is that of the whole output."""
        return Output(name, self.dtype, tuple(shape), self.size, self)


@contextmanager
def opened(reply: Mapping[str, Any]) -> Iterator[list[Output]]:
    """Give the outputs of a run (session.Model.run) with `share` or `take`.

    Raises:
        ModelOpsError: the memory of the process that ran it cannot be read.
    """
    with ExitStack() as stack:
        yield open_in(stack, reply)


def open_in(stack: ExitStack, reply: Mapping[str, Any]) -> list[Output]:
    """Return the outputs of a run; they are closed with the stack. As `opened`."""
    outputs = []
    for row in reply["outputs"]:
        held = row.get("taken", row)
        source = _open(stack, held["place"]) if "place" in held else None
        shape = tuple(row["shape"])
        outputs.append(Output(row["name"], held["dtype"], shape, held["bytes"], source))
    return outputs


def _open(stack: ExitStack, place: Mapping[str, str]) -> Readable:
    if sys.platform == "win32":
        size = int(place["bytes"])
        return stack.enter_context(mmap.mmap(-1, size, tagname=place["tag"]))
    try:
        return stack.enter_context(open(place["path"], "rb"))
    except OSError as error:
        raise ModelOpsError(
            f"the outputs of the measured process cannot be read: {error.strerror}",
            where=place["path"],
            remedy="Run the measurement as a user that may look into its own processes (/proc).",
        ) from None


def compare(
    reference: Sequence[Output],
    candidate: Sequence[Output],
    sample: int = 0,
    where: object = "",
    strict: bool = True,
) -> list[dict[str, Any]]:
    """Compare the outputs of two runs on the same inputs.

    Floats are compared by similarity.Similarity. Integers, booleans and strings are compared by
    their share of equal values (`agreement`): token ids that are close are not alike.

    Args:
        where: what errors are about: the candidate.
        strict: refuse an output of another shape; else its row says that nothing is alike.

    Returns:
        A row an output of the reference: `output`, `sample`, and the figures of Similarity or of
        Agreement.

    Raises:
        ModelOpsError: an output is missing, or of another kind or shape.
    """
    found = {output.name: output for output in candidate}
    rows = []
    for wanted in reference:
        own = found.get(wanted.name)
        problem = f"there is no output {wanted.name!r}"
        if own is not None:
            problem = _difference(wanted, own)
        if own is None or (problem and strict) or wanted.is_discrete != own.is_discrete:
            raise ModelOpsError(problem, where=where, remedy=REMEDY)
        figures = _unlike(wanted) if problem else _figures(wanted, own)
        rows.append({"output": wanted.name, "sample": sample, **figures})
    return rows


def _difference(wanted: Output, own: Output) -> str:
    if wanted.shape != own.shape:
        return (
            f"output {wanted.name!r} has the shape {list(own.shape)} instead of"
            f" {list(wanted.shape)}"
        )
    if wanted.is_discrete != own.is_discrete or (wanted.dtype == "str") != (own.dtype == "str"):
        return f"output {wanted.name!r} is of type {own.dtype} instead of {wanted.dtype}"
    return ""


def _unlike(wanted: Output) -> dict[str, float]:
    return {"agreement": 0.0} if wanted.is_discrete else Similarity.none()


def _figures(wanted: Output, own: Output) -> dict[str, float]:
    sums: Agreement | Similarity = Agreement() if wanted.is_discrete else Similarity()
    for r, c in zip(wanted.blocks(), own.blocks(), strict=True):
        sums.add(r, c)
    return sums.figures()
