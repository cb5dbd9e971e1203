"""Which model file a service's processes really serve. Standard library only.

An edit of the configuration proves nothing: a service may not read it. What its processes hold of
the model's files does: onnxruntime keeps a model's data file mapped for as long as its session
lives (measured with 1.32, FP32 and INT8). Where that tells nothing, what was opened since the
restart, the memory and the service's own answer are asked, and "not proven" is an answer, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..base.errors import ModelOpsError
from ..model import declared
from . import processes

INT8, FP32, UNKNOWN = "int8", "fp32", "unknown"
MAPPED, OPEN, OPENED, MEMORY, ANSWER, NONE = "mapped", "open", "opened", "memory", "answer", "none"
# A loaded model takes about its files' size; other code of a service blurs that. FP32 is about four
# times INT8, so these bounds leave a gap between both.
LOADED = 0.9
CLEARLY_LESS = 0.75
# What a service holds besides a model may be this much; a smaller difference tells nothing.
BLUR_BYTES = 256 << 20
LABEL = {INT8: "the release", FP32: "FP32"}  # whatever its recipe


class Seen(NamedTuple):
    """What was seen of a service's processes.

    Attributes:
        held: of which model they hold a file now, and how: `mapped` or `open`.
        opened: of which models somebody opened a file since the restart; None when nobody watched.
        memory_bytes: what they hold together; None when that cannot be read.
        sizes: bytes of each model's files.
        has_data: models with a data file, which a session keeps mapped.
    """

    held: Mapping[str, str]
    opened: frozenset[str] | None
    memory_bytes: int | None
    sizes: Mapping[str, int]
    has_data: frozenset[str]


def files(graph: Path) -> list[Path]:
    """Return the files of a model that are there: its graph, and the data files that it names."""
    if not graph.is_file():
        return []
    try:
        names = list(declared.read(graph).files)
    except ModelOpsError:
        names = []  # an unusable graph is told of elsewhere
    data = (graph.parent / name for name in names)
    return [graph, *(path for path in data if path.is_file())]


def look(
    pids: Iterable[int], models: Mapping[str, list[Path]], opened: Iterable[Path] | None
) -> Seen:
    """See what processes hold of the files of models.

    Args:
        models: the files of `int8` and of `fp32`, the graph first.
        opened: the files that somebody opened since the restart; None when nobody watched.
    """
    pids = set(pids)
    known: dict[str, set[tuple[int, int, str]]] = {}
    for model, paths in models.items():
        abouts = [(path, path.stat()) for path in paths if path.is_file()]
        known[model] = {(about.st_dev, about.st_ino, path.name) for path, about in abouts}
    held: dict[str, str] = {}
    for how, of in ((OPEN, processes.opened), (MAPPED, processes.mapped)):
        there = set().union(*(of(pid) for pid in pids)) if pids else set()
        held |= {model: how for model, wanted in known.items() if _meet(there, wanted)}
    touched = None if opened is None else set(opened)
    return Seen(
        held,
        None if touched is None else frozenset(m for m, p in models.items() if touched & set(p)),
        processes.memory_bytes(pids),
        {m: sum(path.stat().st_size for path in p if path.is_file()) for m, p in models.items()},
        frozenset(model for model, paths in models.items() if len(paths) > 1),
    )


def _meet(there: set[tuple[int, int, str]], wanted: set[tuple[int, int, str]]) -> bool:
    """Tell whether a file is among others. Some file systems show maps another device number."""
    return any(
        inode == own and (device == disk or path.rpartition("/")[2] == name)
        for device, inode, path in there
        for disk, own, name in wanted
    )


def judge(seen: Seen) -> dict[str, Any]:
    """Say which model is served, and by what that is proven.

    Returns:
        `model`: `int8`, `fp32` or `unknown`; `proof`: `mapped`, `open`, `opened`, `memory` or
        `none`; `text` for people; `seen`: the models that the processes may have loaded.
    """
    opened = seen.opened or frozenset()
    known = sorted(set(seen.held) | opened)
    held = sorted(seen.held)
    if len(held) == 2:
        return _told(UNKNOWN, NONE, "its processes hold files of FP32 and of the release", known)
    if held:
        model, how = held[0], seen.held[held[0]]
        other = INT8 if model == FP32 else FP32
        # One without a data file is read and closed: that it is not held says nothing of it.
        if other in opened and other not in seen.has_data:
            text = f"its processes hold {LABEL[model]}, and {LABEL[other]} was opened, too"
            return _told(UNKNOWN, NONE, text, known)
        return _told(model, how, f"its processes have {LABEL[model]} {how}", known)
    if len(opened) == 2:
        return _told(UNKNOWN, NONE, "FP32 and the release were opened since its restart", known)
    if opened:
        return _opened(next(iter(opened)), seen)
    if seen.opened is not None:
        text = "it has opened no file of the model since its restart, so it has not loaded it yet"
        return _told(UNKNOWN, NONE, f"{text}, or from a copy", known)
    return _by_memory(seen)


def _opened(model: str, seen: Seen) -> dict[str, Any]:
    if model == FP32 and (seen.memory_bytes or 0) < LOADED * seen.sizes.get(FP32, 0):
        text = "FP32 was opened since its restart, but its memory is too small to hold it"
        return _told(UNKNOWN, NONE, text, [model])
    text = f"{LABEL[model]} alone was opened since its restart"
    return _told(model, OPENED, text, [model])


def _by_memory(seen: Seen) -> dict[str, Any]:
    memory, int8, fp32 = seen.memory_bytes, seen.sizes.get(INT8, 0), seen.sizes.get(FP32, 0)
    if memory is None or not int8:
        return _told(UNKNOWN, NONE, "nothing of its processes can be seen", [])
    if fp32 - int8 >= BLUR_BYTES and LOADED * int8 <= memory < CLEARLY_LESS * fp32:
        text = "its memory fits the release and is too small for FP32, a sign and no certainty"
        return _told(INT8, MEMORY, text, [INT8])
    return _told(UNKNOWN, NONE, "its processes hold no file of the model", [])


def _told(model: str, proof: str, text: str, seen: list[str]) -> dict[str, Any]:
    return {"model": model, "proof": proof, "text": text, "seen": seen}


def with_answer(found: Mapping[str, Any], answered: Mapping[str, Any]) -> dict[str, Any]:
    """Let the service's own answer decide where its processes did not tell.

    INT8 never answers as FP32 does to the last bit. So a service whose answers repeat themselves
    serves INT8 when they differ from FP32's. That they are equal is no proof by itself, since it
    may keep answers; where it may have loaded FP32 too, it is.

    Args:
        found: what `judge` returned.
        answered: the result of service_answer, or nothing.
    """
    if found["proof"] != NONE or not answered.get("compared") or not answered.get("repeats"):
        return dict(found)
    if not answered["equal"]:
        text = f"{found['text']}, but its answer differs from the one on FP32"
        return {**found, "model": INT8, "proof": ANSWER, "text": text}
    text = f"{found['text']}, and it answers as on FP32, number for number"
    if FP32 in found["seen"]:
        return {**found, "model": FP32, "proof": ANSWER, "text": text}
    return {**found, "text": text}
