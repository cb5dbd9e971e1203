"""What a file of real inputs holds, read from its headers. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from . import npz
from .session_inputs import by_sample

REMEDY = (
    "Write it with numpy.savez: an array for each input of the model, by its name; for several"
    " samples by input/0/NAME, input/1/NAME and so on."
)


def samples(path: Path) -> list[npz.Described]:
    """Return what each sample of the file holds.

    Raises:
        ModelOpsError: it is missing, no .npz file, or holds what is no array or needs pickle.
    """
    try:
        arrays = npz.described(path)
    except (ModelOpsError, *npz.UNUSABLE) as error:
        what = f"not usable as inputs: {getattr(error, 'what', error)}"
        raise ModelOpsError(what, where=path, remedy=REMEDY) from None
    if not arrays:
        raise ModelOpsError("it holds no input", where=path, remedy=REMEDY)
    stored = by_sample([*arrays])
    numbers = sorted(stored)
    if numbers != list(range(len(numbers))):
        what = f"samples are numbered {numbers} and not 0, 1 and so on"
        raise ModelOpsError(what, where=path, remedy=REMEDY)
    return [{own: arrays[name] for own, name in stored[number].items()} for number in numbers]


def problems(
    found: Sequence[Mapping[str, Mapping[str, Any]]],
    inputs: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Say what does not fit a model, all at once.

    Args:
        found: what `samples` returns.
        inputs: `dtype` and `shape` of each input of the model by name; a dimension that is no
            number may be any, and a shape that is None says nothing.
    """
    wrong = []
    for number, sample in enumerate(found):
        names = set(sample), set(inputs)
        wrong += [f"sample {number} lacks {name}" for name in sorted(names[1] - names[0])]
        wrong += [f"the model has no input {name}" for name in sorted(names[0] - names[1])]
        for name in sorted(names[0] & names[1]):
            given, wanted = sample[name], inputs[name]
            if given["dtype"] != wanted["dtype"]:
                wrong.append(f"{name} is {given['dtype']} and not {wanted['dtype']}")
            if wanted["shape"] is not None and not _fits(given["shape"], wanted["shape"]):
                wrong.append(f"{name} has the shape {given['shape']} and not {wanted['shape']}")
    return list(dict.fromkeys(wrong))


def _fits(given: Sequence[int], wanted: Sequence[Any]) -> bool:
    return len(given) == len(wanted) and all(
        have == want for have, want in zip(given, wanted, strict=True) if isinstance(want, int)
    )
