"""Killed with -9 at any moment: a whole pair or no graph is left, and the next run recovers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import kill_server
import modelops
import models
import numpy as np
import pytest
from examples import some
from kill_server import PHASES
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe

GRAPH = "out.onnx"
# What is killed: the new model, and how many threads quantize it.
RUNS = {
    "one thread": (lambda path: models.voice(path, width=48, rows=80), 1),
    "three threads": (lambda path: models.voice(path, width=64, rows=200), 3),
    "inline weights": (lambda path: models.matmul(path, 96, 64, external=False), 2),
    "nothing to quantize": (lambda path: models.matmul(path, 8, 8, np.eye(8, dtype=np.float32)), 1),
}


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen]:
    here, package = Path(kill_server.__file__).parent, Path(modelops.__file__).parent.parent
    path = os.pathsep.join(map(str, (here, package)))
    process = subprocess.Popen(
        [sys.executable, "-c", "import kill_server; kill_server.main()"],
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        yield process
        process.stdin.close()


class Killing:
    """One kind of run, over the pair of another source, as often as it is killed."""

    def __init__(self, server: subprocess.Popen, folder: Path, name: str) -> None:
        self._server = server
        make, self._threads = RUNS[name]
        self.dest, clean = folder / "dest", folder / "clean"
        for made in (self.dest, clean):
            made.mkdir(parents=True)
        self._source = make(folder / "new.onnx")
        quantize(models.voice(folder / "old.onnx", seed=3), self.dest / GRAPH, Recipe(), threads=1)
        quantize(self._source, clean / GRAPH, Recipe(), threads=1)
        self.old, self.new = models.tree(self.dest), models.tree(clean)

    def job(self, **deadly: int) -> dict:
        """Let the server run the job, and return its answer."""
        job = {"source": str(self._source), "dest": str(self.dest / GRAPH)}
        self._server.stdin.write(json.dumps({**job, "threads": self._threads, **deadly}) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def kill(self, **deadly: int) -> str:
        """Kill a run, check what it left, recover; return the phase that was hit."""
        self.reset()
        answer = self.job(**deadly)
        left = models.tree(self.dest)
        pair = {name: left[name] for name in (GRAPH, f"{GRAPH}.data") if name in left}
        assert GRAPH not in left or pair in (self.old, self.new), answer
        self.job()
        assert models.tree(self.dest) == self.new, answer
        assert len(list(self.dest.iterdir())) == 2, answer
        return answer["phase"]

    def reset(self) -> None:
        shutil.rmtree(self.dest)
        self.dest.mkdir()
        for name, content in self.old.items():
            (self.dest / name).write_bytes(content)


def test_kill_at_every_call(server, tmp_path, capsys):
    hits: Counter[str] = Counter()
    for name in RUNS:
        killing = Killing(server, tmp_path / name, name)
        calls = Counter(phase == kill_server.READ for phase in killing.job()["phases"])
        hits.update(killing.kill(change_at=number) for number in range(calls[False]))
        hits.update(killing.kill(read_at=number) for number in range(0, calls[True], 4))
    with capsys.disabled():
        print(f"\n{hits.total()} kills: " + ", ".join(f"{p} {hits[p]}" for p in PHASES))
    assert hits.total() >= 100
    assert min(hits[phase] for phase in PHASES) >= 5


# Kills itself some milliseconds after a phase began that runs models in child processes.
PROVING = """
import os, signal, sys, threading, time
from pathlib import Path
from modelops.quantizer.recipe import Recipe
from modelops.quantizer.proof import Proof
from modelops.quantizer.quantize import quantize

source, dest, phase, delay = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])

def die():
    time.sleep(delay)
    os.kill(os.getpid(), signal.SIGKILL)

def progress(now, done, total):
    if now.startswith(phase) and threading.active_count() < 9:
        threading.Thread(target=die).start()

quality = {"cosine": 0.99995} if phase != "loading" else {}
quantize(source, dest, Recipe(), proof=Proof(verify=True, quality=quality), progress=progress)
"""


# Seconds after the phase began; the first hits the most phases in the middle.
DELAYS = (0.01, 0, 0.002, 0.05, 0.1)


@pytest.mark.parametrize(
    "phase",
    ["loading", "measuring", "ranking", "measuring the similarity with", "writing the pair"],
)
def test_kill_while_the_result_is_proven(tmp_path, phase):
    """Its own folder is left without a final name, and the children end by themselves."""
    source = models.matmul(tmp_path / "new.onnx", 512, 512)
    clean, dest = tmp_path / "clean", tmp_path / "dest"
    clean.mkdir()
    quantize(source, clean / GRAPH, Recipe())
    new = models.tree(clean)
    places = {"PYTHONPATH": str(Path(modelops.__file__).parent.parent), "TMPDIR": str(tmp_path)}
    before = {path.name for path in tmp_path.iterdir()}
    for delay in some(DELAYS, 1):
        dest.mkdir()
        arguments = [str(source), str(dest / GRAPH), phase, str(delay)]
        # A pipe that the children inherit tells when the last of them has ended.
        read, write = os.pipe()
        killed = subprocess.run(
            [sys.executable, "-c", PROVING, *arguments],
            env={**os.environ, **places},
            stderr=write, check=False,
        )  # fmt: skip
        os.close(write)
        with os.fdopen(read, "rb") as ends:
            assert b"Traceback" not in ends.read()
        assert killed.returncode == -signal.SIGKILL
        assert not (dest / GRAPH).exists()
        quantize(source, dest / GRAPH, Recipe())
        assert models.tree(dest) == new
        shutil.rmtree(dest)
        assert {path.name for path in tmp_path.iterdir()} == before
