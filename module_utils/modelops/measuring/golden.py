"""Golden data: what FP32 answers, so that a host can judge INT8 without holding the FP32 model.

golden.npz holds `meta` (JSON), the inputs of each sample as `input/SAMPLE/NAME`, and of each output
the values at seeded positions as `output/SAMPLE/NUMBER`. The whole output of the real model is
2 GB; a mean over n drawn values has their deviation by sqrt(n) as its standard error, so a million
positions give the figures to about 0.1 %.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from . import npz
from .outputs import Held, Output, opened
from .outputs import compare as outputs_alike
from .session import Model, Setup
from .session_inputs import from_file, seeded
from .session_outputs import positions as drawn

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "golden.npz"
SCHEMA = 1


def wanted(
    source: Sequence[Mapping[str, Any]], samples: int, positions: int, setup: Setup
) -> dict[str, Any]:
    """Return what the data of this source and these options say of themselves.

    Args:
        source: the entries (name, size, sha256) of the FP32 files, verified in this run.
        samples: how many inputs, of the seeds `setup.seed` and following.
        positions: how many values of each output of each sample.
    """
    sha256 = setup.inputs_sha256()
    return {
        "schema": SCHEMA,
        "source": [{k: entry[k] for k in ("name", "size", "sha256")} for entry in source],
        "samples": setup.sample_count(samples) if sha256 else samples,
        "positions": positions,
        "seed": setup.seed,
        "ranges": {name: list(limits) for name, limits in setup.ranges.items()},
        "shapes": {name: list(shape) for name, shape in setup.shapes.items()},
        "session_options": dict(setup.session_options),
        "inputs": {"sha256": sha256} if setup.inputs else {},
    }


def fits(path: Path, meta: Mapping[str, Any]) -> bool:
    """Tell whether a file holds whole golden data of just this description."""
    try:
        found = _read(path)["meta"]
    except (OSError, ModelOpsError):
        return False
    # Data of a version before have no session options, which were the default, and seeded inputs.
    return {key: found.get(key, {}) for key in meta} == dict(meta)


class Answers:
    """What a running FP32 model answers, gathered sample by sample.

    Args:
        running: the model, which runs on the inputs of `setup`.
        positions: how many values are kept of each output of each sample.
    """

    def __init__(self, running: Model, setup: Setup, positions: int) -> None:
        self._running, self._setup, self._positions = running, setup, positions
        self._arrays: dict[str, NDArray[Any]] = {}
        self._rows: list[dict[str, Any]] = []

    def add(self, sample: int, outputs: Sequence[Output]) -> None:
        """Take the answer of a run with `inspect`.

        Raises:
            ModelOpsError: some of its values are not finite.
        """
        running, setup = self._running, self._setup
        if not running.finite:
            raise ModelOpsError(
                "the FP32 model gives values that are not finite",
                where=running.path,
                remedy="Nothing can be compared with it. Look at the model and its inputs.",
            )
        rows = running.loaded["inputs"]
        if setup.inputs:
            inputs = from_file(rows, str(setup.inputs), sample)
        else:
            inputs = seeded(rows, setup.seed + sample, setup.ranges, setup.shapes)
        for name, array in inputs.items():
            self._arrays[f"input/{sample}/{name}"] = _plain(array)
        for number, output in enumerate(outputs):
            chosen = drawn(math.prod(output.shape), self._positions, sample)
            self._arrays[f"output/{sample}/{number}"] = _plain(output.at(chosen))
        self._rows = [{"name": o.name, "dtype": o.dtype, "shape": list(o.shape)} for o in outputs]

    def write(self, dest: Path, meta: Mapping[str, Any]) -> bool:
        """Write the file, whole or not at all; tell whether it was not just this one already.

        What lies there has no say, however well it describes itself: this is FP32's answer.

        Raises:
            OSError: it cannot be written.
        """
        import numpy as np

        versions = self._running.started["versions"]
        described = {**meta, "outputs": self._rows, "versions": versions}
        text = json.dumps(described, sort_keys=True).encode()
        content = io.BytesIO()
        arrays = {**self._arrays, "meta": np.frombuffer(text, np.uint8)}
        np.savez(content, **cast(Any, arrays))
        made = content.getvalue()
        if opener.holds(dest, made):
            return False
        write_atomic(dest, made)
        return True


def make(model: Path, dest: Path, meta: Mapping[str, Any], setup: Setup) -> None:
    """Run the FP32 model and write its golden data, whole or not at all.

    Raises:
        ModelOpsError: the model cannot be loaded or run, or gives values that are not finite.
        OSError: the file cannot be written.
    """
    unpacked = replace(setup, pack=False)
    with setup.work_folder() as work, Model(model, unpacked, work) as running:
        answers = Answers(running, setup, meta["positions"])
        for sample in range(meta["samples"]):
            with opened(running.run(sample, inspect=True, share=True)) as outputs:
                answers.add(sample, outputs)
    answers.write(dest, meta)


def compare(model: Path, path: Path, setup: Setup) -> list[dict[str, Any]]:
    """Run a model on the inputs of golden data and compare its outputs with them.

    Returns:
        A row an output and sample, see outputs.compare.

    Raises:
        ModelOpsError: the file is not usable, or the model does not fit it.
    """
    data = _read(path)
    meta, rows = data.pop("meta"), []
    setup = replace(setup, inputs=path)
    with setup.work_folder() as work, Model(model, setup, work) as running:
        for sample in range(meta["samples"]):
            wanted = [
                Held(data[f"output/{sample}/{n}"]).output(row["name"], row["shape"])
                for n, row in enumerate(meta["outputs"])
            ]
            take = {"count": meta["positions"], "seed": sample}
            with opened(running.run(sample, inspect=True, take=take)) as outputs:
                rows += outputs_alike(wanted, outputs, sample, model)
    return rows


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that can be kept without pickling: strings as numpy's own."""
    return array.astype(str) if array.dtype.kind == "O" else array


def _read(path: Path) -> dict[str, Any]:
    """Return the arrays of a file, and `meta` as a dictionary. Reading checks the CRC of each.

    Raises:
        ModelOpsError: it is damaged, or no golden data.
    """
    try:
        data: dict[str, Any] = npz.arrays(path)
        data["meta"] = opener.parsed(data["meta"].tobytes())
        usable = data["meta"]["schema"] == SCHEMA
    except FileNotFoundError:
        raise
    except (ModelOpsError, *npz.UNUSABLE) as error:
        raise _unusable(path, getattr(error, "what", str(error))) from None
    if not usable:
        raise _unusable(path, f"schema {SCHEMA} is expected")
    return data


def _unusable(path: Path, why: str) -> ModelOpsError:
    return ModelOpsError(
        f"not usable as golden data: {why}",
        where=path,
        remedy="Run quantize.yml again: it is made and brought again.",
    )
