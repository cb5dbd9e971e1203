"""Quantizes in forked children that kill themselves with SIGKILL at a given call. Not a test.

Everything is imported once and a child is forked for each job, so that a kill costs milliseconds.
A job is a line of JSON on standard input: `source`, `dest`, `threads`, and `read_at` or
`change_at`, the number of the reading or changing call before which to die; without them the run
ends. The answer is a line too: `phases`, that of each call in order, of a run that ended, `phase`
and `call` of one that was killed, or `error`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

from faults import READING, Op, Recorder
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe

READ = "reading and planning"
PLACE = "taking the place"
DATA = "writing data"
GRAPH = "writing the graph"
FSYNC = "fsync of the new pair"
REMOVED = "old graph removed"
DATA_RENAMED = "data renamed"
GRAPH_RENAMED = "graph renamed"
CLEANING = "cleaning up"
PHASES = (READ, PLACE, DATA, GRAPH, FSYNC, REMOVED, DATA_RENAMED, GRAPH_RENAMED, CLEANING)


class Phases:
    """Names the phase of each call from what the call does."""

    def __init__(self, dest: Path) -> None:
        self._dest, self._data = dest, dest.with_name(f"{dest.name}.data")
        self._now = PLACE

    def of(self, op: Op) -> str:
        if op.kind in READING:
            return READ
        self._now = self._changing(op)
        return self._now

    def _changing(self, op: Op) -> str:
        if op.kind == "replace":
            return {self._data: DATA_RENAMED, self._dest: GRAPH_RENAMED}[op.target]
        if op.kind in ("unlink", "rmdir"):
            after = self._now in (GRAPH_RENAMED, CLEANING)
            return REMOVED if op.path == self._dest else CLEANING if after else PLACE
        if op.kind == "fsync" and op.is_folder:
            return self._now  # it belongs to the change of the folder that it makes durable
        if op.path.name in (self._dest.name, self._data.name):
            names = {self._dest.name: GRAPH, self._data.name: DATA}
            return FSYNC if op.kind == "fsync" else names[op.path.name]
        return PLACE


def run(job: dict) -> dict:
    """Do a job in this process; does not return when the job is to die."""
    dest = Path(job["dest"]).resolve()
    phases, counts, listed = Phases(dest), {True: 0, False: 0}, []
    deadly = {True: job.get("read_at"), False: job.get("change_at")}

    def hook(op: Op) -> None:
        reads = op.kind in READING
        phase = phases.of(op)
        listed.append(phase)
        if counts[reads] == deadly[reads]:
            answer({"phase": phase, "call": str(op)})
            os.kill(os.getpid(), signal.SIGKILL)
        counts[reads] += 1

    Recorder(dest.parent.parent, hook).install(setattr)
    quantize(Path(job["source"]), dest, Recipe(), threads=job["threads"])
    return {"phases": listed}


def answer(content: dict) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                answer(run(json.loads(line)))
            except BaseException:
                answer({"error": traceback.format_exc()})
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
