"""What a measurement takes of a host's memory, and the way of it that fits. Standard library.

A process that measures holds the model's weights, what onnxruntime unpacks of them at load, the
outputs of one run, and a margin. A model's peak at load is higher by its largest tensor at most,
which the margin of share covers. Sizes are bytes.

    both      both models at once, runs in turn: noise hits both alike
    in_turn   one model after the other; the outputs of the first stay in memory
    golden    the candidate alone, against golden data

The margins are of `python -m modelops benchmark MODEL --json`: peak_rss_bytes less the sizes that
`of` returns was 66 MB at the real shapes (63 MB of weights, 2.01 GB of output). Importing
onnxruntime and numpy takes 60 to 130 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.units import size
from ..model import declared
from .session_inputs import AMPLITUDES, ROWS

AUTO, BOTH, IN_TURN, GOLDEN = "auto", "both", "in_turn", "golden"
MODES = (BOTH, IN_TURN, GOLDEN)
PROCESS = 250_000_000  # of each process: the interpreter, onnxruntime, numpy, inputs, scratch
SHARE = 1.1  # of weights: what allocating in blocks, and a tensor that is packed at load, add


@dataclass(frozen=True)
class Load:
    """What one model takes.

    Attributes:
        weights: its files.
        unpacked: FP32 weights that onnxruntime makes of INT8 ones at load, and keeps beside them.
        outputs: of one run, as far as their shapes are known.
        batch: outputs of a run on a batch (row_by_row), where the model takes one.
    """

    weights: int
    unpacked: int = 0
    outputs: int = 0
    batch: int = 0

    @property
    def loaded(self) -> int:
        """Return the memory of the process that holds it, without outputs."""
        return int((self.weights + self.unpacked) * SHARE) + PROCESS

    @property
    def running(self) -> int:
        """Return the memory of the process while it runs."""
        return self.loaded + self.outputs

    @property
    def highest(self) -> int:
        """Return the memory of the process that runs, or that runs on a batch."""
        return self.loaded + max(self.outputs, self.batch)


@dataclass(frozen=True)
class Choice:
    """A way of measuring: what it needs, what there is, and why it was taken."""

    mode: str
    needed: int
    available: int | None
    why: str

    def facts(self) -> dict[str, Any]:
        """Return it for a module's result."""
        return {
            "mode": self.mode,
            "memory_needed_bytes": self.needed,
            "memory_available_bytes": self.available,
            "why": self.why,
        }


def of(path: Path) -> Load:
    """Return what a model takes, from its graph file and the sizes of its files.

    Raises:
        ModelOpsError: it cannot be read.
    """
    known = declared.read(path)
    files = {path.name, *known.files}
    weights = sum((path.parent / name).stat().st_size for name in files)
    batch = known.output_bytes + ROWS * known.row_bytes if known.row_bytes else 0
    return Load(weights, known.unpacked_bytes, known.output_bytes, batch)


def needs(reference: Load | None, candidate: Load, mode: str, kept: int) -> int:
    """Return the bytes of memory that a mode takes at its highest.

    Args:
        reference: the FP32 model; golden mode does without.
        kept: samples whose outputs stay in memory in turn.
    """
    if mode == GOLDEN or reference is None:
        return candidate.running
    batches = _in_turn(reference, candidate, len(AMPLITUDES) * reference.batch)
    if mode == BOTH:
        return max(reference.running + candidate.running, batches)
    return max(_in_turn(reference, candidate, kept * reference.outputs), batches)


def _in_turn(reference: Load, candidate: Load, waiting: int) -> int:
    """Return what one model after the other takes; so many bytes of outputs wait between."""
    return max(
        reference.loaded + max(reference.outputs, waiting),
        waiting + (candidate.highest if waiting else candidate.running),
    )


def table(
    reference: Load | None, candidate: Load, kept: int, modes: Iterable[str] = MODES
) -> dict[str, int]:
    """Return what each mode takes, for people."""
    return {mode: needs(reference, candidate, mode, kept) for mode in modes}


def choose(
    wanted: str, needed: Mapping[str, int], available: int | None, where: object = ""
) -> Choice:
    """Choose the way of measuring.

    Args:
        wanted: a mode, which is taken, or AUTO: the first that fits.
        needed: bytes by mode, the best mode first, see `table`.
        available: the bytes that are free now; None where unknown.
        where: what an error is about.

    Raises:
        ModelOpsError: none fits, or the mode is not among those that are possible here.
    """
    known = ", ".join(f"{mode} {size(count)}" for mode, count in needed.items())
    if wanted != AUTO:
        if wanted not in needed:
            raise ModelOpsError(
                f"mode {wanted} is not possible with what was given",
                where=where,
                remedy=f"Use {AUTO} or one of: {', '.join(needed)}.",
            )
        return Choice(wanted, needed[wanted], available, "it was asked for")
    free = "unknown" if available is None else size(available)
    for mode, count in needed.items():
        if available is None or count <= available:
            why = f"the first that fits: {free} of memory are available; needed are {known}"
            return Choice(mode, count, available, why)
    raise ModelOpsError(
        f"too little memory to measure: {free} are available, needed are {known}",
        where=where,
        remedy="Free memory, or name a mode (sarai_measure_mode) to try it nevertheless.",
    )
