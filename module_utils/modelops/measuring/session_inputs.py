"""Inputs of a measured model: what a session says of them, seeded values, and values from a file.

Runs in the child process too (see child.py): it and what it imports need numpy at most.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import ModelOpsError
from . import npz

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]

# What stands for a dimension without a name.
UNNAMED = "None"
_BITS = (8, 16, 32, 64)
# onnxruntime's name of a type and numpy's; strings are arrays of objects. Types that numpy lacks
# (bfloat16, float8, int4) are left out: a model that takes or gives them is refused.
DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(string)": "str",
    **{f"tensor({name}{bits})": f"{name}{bits}" for name in ("int", "uint") for bits in _BITS},
}


# The kinds of batches, and what the floats of their rows are multiplied with. Rows that are quieter
# than the one before: none is louder than a sample alone, so that errors are not larger than those
# that the thresholds are made for. And two rows with one of Inf between, as a mask makes it.
UNEVEN, MASKED = "uneven", "masked"
AMPLITUDES = {UNEVEN: (1.0, 0.1, 0.01), MASKED: (1.0, math.inf, 1.0)}
ROWS = 3
# The name of an array in a file with several samples: the sample's number, and the input's name.
SAMPLE = re.compile(r"input/(\d+)/(.+)")


class RequestError(Exception):
    """A request that cannot be met, with a reason for people."""


def describe(values: Sequence[Any], kind: str) -> list[dict[str, Any]]:
    """Return name, type, numpy dtype and shape of a session's inputs or outputs.

    Raises:
        RequestError: a type that numpy lacks, or no tensor at all.
    """
    rows = []
    for value in values:
        dtype = DTYPES.get(value.type)
        if dtype is None:
            raise RequestError(
                f"{kind} {value.name!r} is of type {value.type}; supported are {', '.join(DTYPES)}"
            )
        shape = [size if isinstance(size, int) else size or UNNAMED for size in value.shape]
        rows.append({"name": value.name, "type": value.type, "dtype": dtype, "shape": shape})
    return rows


def is_static(row: Mapping[str, Any]) -> bool:
    """Tell whether every dimension of a described value is a number."""
    return all(isinstance(size, int) for size in row["shape"])


def concrete_shape(row: Mapping[str, Any], given: Sequence[int] | None) -> list[int]:
    """Return the shape to use for an input: as given, else 1 for each symbolic dimension.

    Raises:
        RequestError: the shape given does not fit the model's.
    """
    declared = row["shape"]
    if given is None:
        return [size if isinstance(size, int) else 1 for size in declared]
    fits = _numbers(given) and len(given) == len(declared)
    fits = fits and all(
        size >= 0 and size == (want if isinstance(want, int) else int(size))
        for size, want in zip(given, declared, strict=True)
    )
    if not fits:
        raise RequestError(f"shape {given!r} does not fit {row['name']!r}, which is {declared}")
    return [int(size) for size in given]


def _numbers(values: Any) -> bool:
    """Tell whether a request holds a list of numbers here."""
    listed = isinstance(values, list | tuple)
    return listed and all(isinstance(value, int | float) for value in values)


def seeded(
    rows: Sequence[Mapping[str, Any]],
    seed: int,
    ranges: Mapping[str, Sequence[float]],
    shapes: Mapping[str, Sequence[int]],
) -> Arrays:
    """Make inputs from a seed and the model's own descriptions.

    Floats are standard normal, integers uniform over [0, 1], booleans fair; with a range
    `[low, high]`, floats and integers are uniform over it, both ends included. Strings are
    integers, drawn likewise, in decimal. Each input has its own random stream, from the seed and
    its name, whatever the order of inputs.

    Raises:
        RequestError: a range or shape that fits no input.
    """
    import numpy as np

    unknown = (set(ranges) | set(shapes)) - {row["name"] for row in rows}
    if unknown:
        names = ", ".join(sorted(row["name"] for row in rows))
        raise RequestError(f"no input is called {', '.join(sorted(unknown))}; there are {names}")
    inputs = {}
    for row in rows:
        name, text = row["name"], row["dtype"] == "str"
        dtype = np.dtype("int64" if text else row["dtype"])
        shape = concrete_shape(row, shapes.get(name))
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        drawn = _draw(random, dtype, shape, _limits(name, dtype, ranges.get(name)))
        inputs[name] = drawn.astype(str).astype(object) if text else drawn
    return inputs


def batch_axes(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the dimensions of inputs that a batch lies along; none where a model takes one row.

    Those are the symbolic first dimensions, and all others of the same name.
    """
    first = {row["shape"][0] for row in rows if row["shape"]}
    named = {size for size in first if isinstance(size, str) and size != UNNAMED}
    found = {}
    for row in rows:
        axes = [i for i, size in enumerate(row["shape"]) if size in named]
        if row["shape"][:1] == [UNNAMED]:
            axes.insert(0, 0)
        if axes:
            found[row["name"]] = axes
    leading = any(axes[0] == 0 for axes in found.values())
    return found if leading else {}


def batch_shapes(
    rows: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Sequence[int]]:
    """Return the shapes of inputs for a batch of ROWS."""
    axes = batch_axes(rows)
    result = dict(shapes)
    for row in rows:
        if row["name"] in axes:
            shape = concrete_shape(row, shapes.get(row["name"]))
            of_batch = axes[row["name"]]
            result[row["name"]] = [
                ROWS if axis in of_batch else size for axis, size in enumerate(shape)
            ]
    return result


def as_batch(
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    inputs: Arrays,
    ranges: Mapping[str, Sequence[float]],
) -> Arrays:
    """Return inputs as a batch: repeated or cut to its rows, and the floats by AMPLITUDES.

    Floats whose range leaves out 0 stay as they are, and none with a range becomes Inf.
    """
    import numpy as np

    result = dict(inputs)
    for name, axes in batch_axes(rows).items():
        array = inputs[name]
        for axis in axes:
            if array.shape[axis]:
                array = np.take(array, np.arange(ROWS) % array.shape[axis], axis)
        low, high = ranges.get(name, (0, 0))
        may = low <= 0 <= high if kind == UNEVEN else name not in ranges
        if array.dtype.kind == "f" and axes[0] == 0 and may and array.shape[0]:
            factors = np.reshape(AMPLITUDES[kind], (-1, *[1] * (array.ndim - 1)))
            scaled = np.where(
                np.isinf(factors), np.copysign(factors, array), array * np.minimum(factors, 1)
            )
            array = scaled.astype(array.dtype)
        result[name] = np.ascontiguousarray(array)
    return result


def _draw(
    random: Any, dtype: Any, shape: Sequence[int], limits: tuple[float, float] | None
) -> NDArray[Any]:
    import numpy as np

    if dtype.kind == "b":
        return np.asarray(random.integers(0, 2, shape)).astype(bool)
    if dtype.kind == "f" and limits is None:
        return np.asarray(random.standard_normal(shape)).astype(dtype)
    if dtype.kind == "f":
        return np.asarray(random.uniform(*(limits or (0, 1)), shape)).astype(dtype)
    low, high = (int(limit) for limit in limits or (0, 1))
    return np.asarray(random.integers(low, high, shape, dtype=dtype.type, endpoint=True))


def _limits(name: str, dtype: Any, limits: Sequence[float] | None) -> tuple[float, float] | None:
    import numpy as np

    if limits is None:
        return None
    if dtype.kind == "b" or not _numbers(limits) or len(limits) != 2 or limits[0] > limits[1]:
        raise RequestError(
            f"the range of {name!r} is {limits!r}; give [low, high], no range for bool"
        )
    bounds: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    if limits[0] < bounds.min or limits[1] > bounds.max:
        raise RequestError(f"the range {limits} of {name!r} leaves the range of {dtype}")
    return limits[0], limits[1]


def from_file(rows: Sequence[Mapping[str, Any]], path: str, sample: int = 0) -> Arrays:
    """Read the inputs of a sample from an .npz file.

    It holds an array for each input: by the input's name where there is one sample, by
    `input/SAMPLE/NAME` where there are several, as in golden data, which hold other arrays too.

    Raises:
        RequestError: names, types or shapes do not fit the model.
    """
    try:
        stored = by_sample([*npz.described(Path(path))]).get(sample, {})
        found = npz.arrays(Path(path), set(stored.values()))
    except (ModelOpsError, *npz.UNUSABLE) as error:
        raise RequestError(f"{path} is not usable: {getattr(error, 'what', error)}") from None
    inputs = {name: _native(found[stored[name]]) for name in stored}
    names = {row["name"] for row in rows}
    if set(inputs) != names:
        raise RequestError(f"{path} holds {sorted(inputs)}, but the inputs are {sorted(names)}")
    for row in rows:
        array = inputs[row["name"]]
        if (array.dtype.kind != "O" or row["dtype"] != "str") and array.dtype.name != row["dtype"]:
            raise RequestError(f"{row['name']!r} in {path} is {array.dtype}, not {row['dtype']}")
        concrete_shape(row, array.shape)
    return inputs


def by_sample(names: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the arrays of each sample of a file, by the names of the inputs.

    Args:
        names: of all its arrays. Where none is that of a SAMPLE, they are those of one sample.
    """
    found: dict[int, dict[str, str]] = {}
    for name in names:
        if match := SAMPLE.fullmatch(name):
            found.setdefault(int(match[1]), {})[match[2]] = name
    return found or {0: {name: name for name in names}}


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as onnxruntime wants it: C order, this machine's byte order, str objects."""
    import numpy as np

    if array.dtype.kind == "U":
        return array.astype(object)
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
