"""How far a long job is: its figures, one line of them, and the file that carries them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .memory import peak_rss_bytes
from .opener import fresh
from .units import seconds, size

# Called with what is being done, and the bytes of it that are done and that there are (0: unknown).
Progress = Callable[[str, int, int], None]
_WRITE_EVERY_S = 0.2
_LARGEST = 1 << 63  # nothing that is measured is larger, and every float of it is finite


class Meter:
    """Turns the calls of a job into figures. The rate is that of the phase under way."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._phase = ""
        self._phase_started = self.started

    def figures(self, phase: str, done: int, total: int) -> dict[str, Any]:
        """Return the figures at a call.

        Returns:
            `phase`, `done` and `total` in bytes, `rate` in bytes a second, `left_s` and
            `elapsed_s` in seconds, `peak_rss_bytes`; None where a figure is not known yet.
        """
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._phase_started = phase, now
        lasted = now - self._phase_started
        rate = done / lasted if done and lasted > 0 else None
        return {
            "phase": phase,
            "done": done,
            "total": total,
            "rate": rate,
            "left_s": (total - done) / rate if rate else None,
            "elapsed_s": now - self.started,
            "peak_rss_bytes": peak_rss_bytes(),
        }


def checked(value: Any) -> dict[str, Any]:
    """Return figures that a host sent; none at all where one is not what a job writes."""
    if not isinstance(value, dict) or not isinstance(value.get("phase"), str):
        return {}
    known = [value.get(name) for name in ("done", "total", "elapsed_s")]
    unknown = [value.get(name) for name in ("rate", "left_s", "peak_rss_bytes", "pid")]
    fine = all(map(_is_figure, [*known, *(each for each in unknown if each is not None)]))
    fine = fine and (value.get("rate") is None) == (value.get("left_s") is None)
    return value if fine and isinstance(value.get("pid", 1), int) else {}


def _is_figure(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value < _LARGEST


def line(figures: Mapping[str, Any]) -> str:
    """Return figures as one line for a terminal."""
    parts = [figures["phase"]]
    if figures["total"]:
        share = 100 * figures["done"] // figures["total"]
        parts = [
            f"{figures['phase']}: {size(figures['done'])} of {size(figures['total'])} ({share} %)"
        ]
    if figures["rate"] is not None:
        parts.append(f"{size(figures['rate'])}/s")
        parts.append(f"{seconds(figures['left_s'])} left")
    if figures["peak_rss_bytes"] is not None:
        parts.append(f"peak memory {size(figures['peak_rss_bytes'])}")
    return ", ".join(parts)


class ProgressFile:
    """Keeps a JSON file with the newest figures, and the process that they are of, as `pid`.

    It is a courtesy to whoever watches: what goes wrong with it never stops the job.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._meter = Meter()
        self._phase = ""
        self._written = 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if phase == self._phase and now - self._written < _WRITE_EVERY_S:
            return
        self._phase, self._written = phase, now
        figures = {"pid": os.getpid(), **self._meter.figures(phase, done, total)}
        part = self.path.with_name(f"{self.path.name}.part")
        with contextlib.suppress(OSError):
            with fresh(part) as handle:
                handle.write(json.dumps(figures).encode())
            os.replace(part, self.path)

    def remove(self) -> None:
        """Take the file away."""
        for path in (self.path, self.path.with_name(f"{self.path.name}.part")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def kept(path: Path | None) -> Iterator[ProgressFile | None]:
    """Give a progress file for the time of a job; None for no path."""
    if path is None:
        yield None
        return
    file = ProgressFile(path)
    try:
        yield file
    finally:
        file.remove()


@contextlib.contextmanager
def told(path: str | None) -> Iterator[Callable[[str], None] | None]:
    """Give what keeps a progress file for a job that has phases alone; None for no path."""
    with kept(Path(path) if path else None) as file:
        yield None if file is None else lambda phase: file(phase, 0, 0)
