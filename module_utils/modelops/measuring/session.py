"""How models are measured, and the figures of a model that is loaded in a child process.

Times are wall-clock seconds, sizes are bytes.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.files import sha256_file
from . import inputs_file
from .child import Child


@dataclass(frozen=True)
class Setup:
    """How models are measured.

    Args:
        seed: of the inputs.
        ranges: `[low, high]`, both included, of an input by name; integers default to [0, 1].
        shapes: shape of an input by name; symbolic dimensions default to 1.
        inputs: an .npz file with all inputs, instead of seeded ones; see session_inputs.from_file.
        providers: of onnxruntime, in order of preference.
        threads: within an operator; 0 is onnxruntime's default.
        session_options: further session options; none gives the default session.
        timeout_s: limit of each single step: start, load, or one run.
        work_dir: for temporary files; None is the system's temp folder.
        fold: compute at load what is constant. Without it weights that are unpacked are unpacked in
            each run: load takes less memory and time, a run more. The outputs are the same.
        pack: copy matrices at load into the order that multiplies fastest. Without it a model of
            4.3 GB is loaded in 0.1 s instead of 13 and stays in the file's own pages, and a run
            takes a quarter more: for few runs that nobody times.
        memory_limit: bytes that the process may take, where a limit can be set (neighbour.scope).
        tell: called with what a model does now, for people.
    """

    seed: int = 0
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    inputs: Path | None = None
    providers: Sequence[str] = ("CPUExecutionProvider",)
    threads: int = 0
    session_options: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 600
    work_dir: Path | None = None
    fold: bool = True
    pack: bool = True
    memory_limit: int | None = None
    tell: Callable[[str], None] | None = field(default=None, compare=False)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], **more: Any) -> Setup:
        """Make it from the options that all modules have which run models (options.MEASURING)."""
        return cls(
            seed=params["seed"],
            ranges=params["ranges"] or {},
            shapes=params["shapes"] or {},
            inputs=Path(params["inputs"]) if params["inputs"] else None,
            session_options=params["session_options"] or {},
            timeout_s=params["timeout_s"],
            work_dir=Path(params["work_dir"]) if params["work_dir"] else None,
            **more,
        )

    def unpacked(self) -> dict[str, str]:
        """Return the session options that leave matrices as they are in the file."""
        return {} if self.pack else {"session.disable_prepacking": "1"}

    def input_spec(self, sample: int = 0, batch: str = "") -> dict[str, Any]:
        """Return what a child needs to make the inputs of a sample: the seed is seed + sample.

        With `batch`, those of a batch of that kind: see row_by_row.
        """
        shapes, ranges = dict(self.shapes), dict(self.ranges)
        spec = {"ranges": ranges, "batch": batch}
        if self.inputs is not None:
            return {"npz": os.path.abspath(self.inputs), "sample": sample, **spec}
        return {"seed": self.seed + sample, "shapes": shapes, **spec}

    def sample_count(self, wanted: int) -> int:
        """Return how many samples there are: those that `inputs` holds, else those wanted.

        Raises:
            ModelOpsError: `inputs` is no .npz file.
        """
        return wanted if self.inputs is None else len(inputs_file.samples(self.inputs))

    def inputs_sha256(self) -> str | None:
        """Return the SHA-256 of the file `inputs`; None without one, or while it is missing."""
        return sha256_file(self.inputs) if self.inputs and self.inputs.is_file() else None

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Give a temporary folder and remove it afterwards."""
        folder = tempfile.TemporaryDirectory(prefix="modelops-", dir=self.work_dir)
        with folder as name:
            yield Path(name)


class Model:
    """A model and the figures of its runs. It is loaded while the context is entered.

    It may be entered again: `seconds` grow, the peak is the highest of all, and load and first run
    are those of the first time.
    """

    def __init__(self, path: Path, setup: Setup, work: Path) -> None:
        if not path.is_file():
            raise ModelOpsError("there is no such model", where=path, remedy="Check the path.")
        self.path, self.setup = path, setup
        self.started: dict[str, Any] = {}  # replies of the first time, see session_program.py
        self.loaded: dict[str, Any] = {}
        self.seconds: list[float] = []  # of timed runs
        self.first_s = math.nan
        self.peak_rss_bytes = self.output_bytes = 0
        self.memory_over_time: list[list[float]] = []  # of the first time, see session_memory.py
        self._times = 0
        self.finite = self.repeatable = True
        self._work = work
        self._checksums: dict[int, int] = {}
        self._child: Child | None = None

    def __enter__(self) -> Model:
        self._tell("loading")
        limit = self.setup.memory_limit
        child = Child(self.path, self._work, self.setup.timeout_s, memory_limit=limit)
        try:
            started = child.ask("start")
            loaded = child.ask(
                "load",
                path=os.path.abspath(self.path),
                providers=list(self.setup.providers),
                threads=self.setup.threads,
                session_options={**self.setup.session_options, **self.setup.unpacked()},
                fold=self.setup.fold,
                work=str(self._work),
            )
        except BaseException:
            child.close(kindly=False)
            raise
        self._child = child
        self._times += 1
        self.started = self.started or started
        self.loaded = self.loaded or loaded
        return self

    @property
    def pid(self) -> int:
        """Return the id of the process that holds the model now."""
        assert self._child is not None
        return self._child.pid

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._child is not None
        self._child.close(kindly=kind is None)
        self._child = None

    def _tell(self, what: str) -> None:
        if self.setup.tell is not None:
            self.setup.tell(f"{what} {self.path.name}")

    def run(
        self,
        sample: int = 0,
        timed: bool = False,
        inspect: bool = False,
        share: bool = False,
        fresh: bool = False,
        take: Mapping[str, int] | None = None,
        batch: str = "",
    ) -> dict[str, Any]:
        """Run once on the inputs of a sample.

        Args:
            timed: the run counts among `seconds`.
            inspect: check that outputs are finite and equal to those of this sample's other runs.
            share: the reply tells where the outputs lie, see outputs.opened. The next run writes
                into the same memory.
            fresh: write into new memory: what was opened of an earlier run stays as it is.
            take: {count, seed}: share only the values at so many positions
                (session_outputs.positions).
            batch: make a batch of that kind (session_inputs.AMPLITUDES) of the sample.
        """
        assert self._child is not None
        number = len(self.seconds) + 1
        self._tell(f"timing run {number} of" if timed else f"running sample {sample + 1} of")
        reply = self._child.ask(
            "run",
            inputs=self.setup.input_spec(sample, batch),
            inspect=inspect,
            share=share,
            fresh=fresh,
            take=dict(take) if take else None,
        )
        if math.isnan(self.first_s):
            self.first_s = reply["seconds"]
        if timed:
            self.seconds.append(reply["seconds"])
        if "checksum" in reply:
            self.finite = self.finite and reply["finite"]
            known = self._checksums.setdefault(sample, reply["checksum"])
            self.repeatable = self.repeatable and known == reply["checksum"]
        self.output_bytes = sum(output["bytes"] for output in reply["outputs"])
        self.peak_rss_bytes = max(self.peak_rss_bytes, reply["peak_rss_bytes"])
        if self._times == 1:
            self.memory_over_time = reply.get("memory_over_time", [])
        return reply
