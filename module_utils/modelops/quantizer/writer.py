"""The pair that a recipe makes of a source: planned, then written or only hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ..base.files import DurableFile
from ..base.progress import Progress
from ..model.learned import Learned, settled
from ..model.reader import read_model
from ..model.tensor_blocks import Files
from .activations import Shapes, shapes
from .data_file import Layout
from .half import Ranges
from .plan import Plan
from .recipe import Recipe


class Writer:
    """Plans and writes the pair `dest` + `dest.data` of one source.

    Args:
        src: the FP32 graph.
        dest: the INT8 graph to be.
        threads: threads that read and quantize.
        progress: called with the phase, and the bytes of the data file done and in all.

    Attributes:
        dest, data: the two files under their final names.
    """

    def __init__(self, src: Path, dest: Path, threads: int, progress: Progress | None) -> None:
        self.src, self.dest = src, dest
        self.data = dest.with_name(f"{dest.name}.data")
        self.threads, self._progress = threads, progress
        self._files = Files()
        self._ranges = Ranges(src, self._files, threads)
        self._shapes: Shapes | None = None

    def close(self) -> None:
        self._files.close()

    def plan(
        self,
        recipe: Recipe,
        scratch: Path | None,
        *,
        probe: bool = False,
        layout: Callable[[], Layout] | None = None,
    ) -> Plan:
        """Plan until nothing new is learned (see learned.settled).

        Args:
            scratch: folder for scratch files; None takes the system's.
            probe: plan the model that ranks the nodes (see plan.Plan).
            layout: makes the layout of each plan; None lays out the whole data file.
        """

        def made(learned: Learned, probe: bool = False) -> Plan:
            where = layout() if layout else Layout(self.data.name)
            model = read_model(self.src, recipe.fold_inputs)
            if self._shapes is None:  # the same for each plan
                self._shapes = shapes(model)
            return Plan(
                model, self.src, where, recipe, self._files, self._ranges, scratch,
                probe=probe, learned=learned, shapes=self._shapes,
            )  # fmt: skip

        plan = settled(made)
        return made(plan.learned, probe=True) if probe else plan

    def sizes(self, plan: Plan) -> dict[Path, int]:
        """Return the bytes of each file."""
        return {self.dest: len(plan.graph_bytes), self.data: plan.layout.size}

    def hashes(self, plan: Plan) -> dict[Path, str]:
        """Return the SHA-256 of each file without writing it."""
        digest = plan.layout.stream(None, self.threads, self._reporter("comparing", plan))
        return {self.dest: _graph_digest(plan), self.data: digest}

    def write(self, plan: Plan, folder: Path, phase: str) -> dict[Path, str]:
        """Write the pair into a folder, durably, and return the SHA-256 of each file."""
        with DurableFile(folder / self.data.name) as out:
            digest = plan.layout.stream(out, self.threads, self._reporter(phase, plan))
            self.tell("making the data durable")
        with (folder / self.dest.name).open("wb") as out:
            out.write(plan.graph_bytes)
            out.flush()
            os.fsync(out.fileno())
        return {self.dest: _graph_digest(plan), self.data: digest}

    def tell(self, phase: str) -> None:
        """Report a phase that has no bytes to count."""
        if self._progress is not None:
            self._progress(phase, 0, 0)

    def _reporter(self, phase: str, plan: Plan) -> Callable[[int], None] | None:
        progress, total = self._progress, plan.layout.size
        return None if progress is None else lambda done: progress(phase, done, total)


def _graph_digest(plan: Plan) -> str:
    return hashlib.sha256(plan.graph_bytes).hexdigest()
