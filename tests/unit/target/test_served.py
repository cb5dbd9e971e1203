"""Which model a service serves: processes that map, hold or read its files, and the judgement."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from modelops.target import processes, served, validation
from modelops.target.opens import Watch
from modelops.target.served import FP32, INT8, UNKNOWN, Seen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the services run on Linux")
MB = 1 << 20
SIZES = {FP32: 4000 * MB, INT8: 1100 * MB}
BOTH = frozenset({FP32, INT8})
NOBODY: frozenset[str] = frozenset()


def seen(
    held: dict[str, str] | None = None,
    opened: frozenset[str] | None = NOBODY,
    memory: int = 1400 * MB,
    data: frozenset[str] = BOTH,
) -> Seen:
    return Seen(held or {}, opened, memory, SIZES, data)


@pytest.mark.parametrize(
    ("case", "model", "proof"),
    [
        (seen({INT8: "mapped"}), INT8, "mapped"),
        (seen({INT8: "open"}, frozenset({INT8, FP32})), INT8, "open"),
        (seen({FP32: "mapped"}), FP32, "mapped"),
        # It tried INT8, let it go and holds FP32.
        (seen({FP32: "mapped"}, BOTH), FP32, "mapped"),
        # INT8 is one file, which is read and closed: both may be loaded.
        (seen({FP32: "mapped"}, BOTH, data=frozenset({FP32})), UNKNOWN, "none"),
        (seen({FP32: "mapped", INT8: "mapped"}), UNKNOWN, "none"),
        (seen(opened=frozenset({INT8})), INT8, "opened"),
        (seen(opened=frozenset({FP32}), memory=4300 * MB), FP32, "opened"),
        # A backup reads FP32 while a service waits for its first question.
        (seen(opened=frozenset({FP32}), memory=90 * MB), UNKNOWN, "none"),
        (seen(opened=BOTH, memory=4300 * MB), UNKNOWN, "none"),
        # Nothing was opened: it is lazy, or serves a copy. Its memory tells nothing then.
        (seen(), UNKNOWN, "none"),
        (seen(opened=None), INT8, "memory"),
        (seen(opened=None, memory=4300 * MB), UNKNOWN, "none"),
        (seen(opened=None, memory=200 * MB), UNKNOWN, "none"),
    ],
)
def test_what_is_seen_and_what_it_proves(case: Seen, model: str, proof: str) -> None:
    found = served.judge(case)
    assert (found["model"], found["proof"]) == (model, proof), found["text"]
    assert validation.refuses(found) is (model == FP32)
    proven = "could not be proven" not in validation.outcome(found)
    assert proven is (proof != "none")


@pytest.mark.parametrize(
    ("case", "answered", "model"),
    [
        (seen(opened=BOTH), {"compared": True, "repeats": True, "equal": False}, INT8),
        (seen(opened=BOTH), {"compared": True, "repeats": True, "equal": True}, FP32),
        # It may keep its answers: that they are equal is no proof where FP32 was not opened.
        (seen(), {"compared": True, "repeats": True, "equal": True}, UNKNOWN),
        (seen(), {"compared": True, "repeats": False, "equal": False}, UNKNOWN),
        (seen(), {"compared": False}, UNKNOWN),
        (seen({INT8: "mapped"}), {"compared": True, "repeats": True, "equal": True}, INT8),
    ],
)
def test_its_answer_decides_what_its_processes_did_not(
    case: Seen, answered: dict[str, bool], model: str
) -> None:
    assert served.with_answer(served.judge(case), answered)["model"] == model


def test_nothing_is_proven_without_a_manager() -> None:
    found = validation.service_serves("none", {}, {}, {})
    assert "sarai_service_manager is none" in validation.outcome(found)
    assert not validation.refuses(found)


def test_a_service_that_ignores_its_configuration_does_not_void_the_release() -> None:
    wrong = [{"name": "configuration", "ok": False}, {"name": "load", "ok": True}]
    assert not validation.is_the_releases_fault(wrong, {"verdict": "pass"})
    assert validation.is_the_releases_fault(wrong, {"verdict": "fail"})
    assert validation.is_the_releases_fault(
        [*wrong, {"name": "answer", "ok": False}], {"verdict": "pass"}
    )


# -- real processes

MAPS = (
    "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); f.close()"
)
HOLDS = "import sys; f = open(sys.argv[1], 'rb')"
READS = "import sys; open(sys.argv[1], 'rb').read()"
WAITS = "; print(1, flush=True); sys.stdin.read()"
START = "import subprocess, sys; c = [sys.executable, '-c', *sys.argv[1:]]; p = subprocess.Popen(c)"


@pytest.fixture
def run() -> Iterator[Callable[..., int]]:
    """Start a Python that does something with a file and then waits; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> int:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", *arguments], stdin=pipe, stdout=pipe, bufsize=0
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline()
        return process.pid

    yield start
    for process in started:
        process.communicate(timeout=20)


@pytest.fixture
def models(tmp_path: Path) -> dict[str, list[Path]]:
    made = {}
    for model in (INT8, FP32):
        made[model] = [tmp_path / f"{model}.onnx", tmp_path / f"{model}.onnx.data"]
        for path in made[model]:
            path.write_bytes(model.encode() * 3000)
    return made


@pytest.mark.parametrize(("doing", "proof"), [(MAPS, "mapped"), (HOLDS, "open"), (READS, "opened")])
def test_a_process_is_seen(
    run: Callable[..., int], models: dict[str, list[Path]], doing: str, proof: str
) -> None:
    with closing(Watch(path for paths in models.values() for path in paths)) as watch:
        assert watch.works
        pid = run(doing + WAITS, str(models[INT8][1]))
        opened = watch.opened()
    found = served.judge(served.look({pid}, models, opened))
    assert (found["model"], found["proof"]) == (INT8, proof)
    assert served.judge(served.look({pid}, models, None))["proof"] == (
        proof if proof != "opened" else "none"
    )


def test_a_child_is_seen_and_a_file_under_another_name(
    run: Callable[..., int], models: dict[str, list[Path]], tmp_path: Path
) -> None:
    """The pair moves to its live name while somebody maps it: it is the same file."""
    other = tmp_path / "link.data"
    other.hardlink_to(models[INT8][1])
    pid = run(f"{START}; p.wait()", MAPS + WAITS, str(other))
    below = processes.with_children({pid})
    assert len(below) == 2
    assert served.judge(served.look({pid}, models, None))["proof"] == "none"
    assert served.judge(served.look(below, models, None))["proof"] == "mapped"
    assert (processes.memory_bytes(below) or 0) > (processes.memory_bytes({pid}) or 0) > MB


def test_who_is_gone_has_nothing(models: dict[str, list[Path]]) -> None:
    gone = 1 << 30
    assert processes.started(gone) == 0 and processes.with_children({gone}) == set()
    assert processes.memory_bytes({gone}) is None
    assert served.judge(served.look({gone}, models, None))["model"] == UNKNOWN


def test_a_watch_that_cannot_see_all_says_so(tmp_path: Path) -> None:
    with closing(Watch([tmp_path / "absent"])) as watch:
        assert not watch.works and watch.opened() == set()
