"""The memory of a measured process over its time.

Runs in the child process (see child.py): it imports the standard library only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..base.memory import resident

EVERY_S = 0.05
MOST = 200  # stretches of time that are kept; one is made of two when there are more


class Memory:
    """Looks at this process's memory from a thread of its own, and keeps the highest of stretches.

    Args:
        look: returns the resident bytes now.
    """

    def __init__(self, look: Callable[[], int] = lambda: resident()[0]) -> None:
        self._look, self._began = look, time.monotonic()
        self._every_s = EVERY_S
        self._points: list[tuple[float, int]] = []
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Begin; it ends with the process."""
        threading.Thread(target=self._watch, daemon=True).start()

    def add(self, after_s: float) -> None:
        """Look once, `after_s` seconds after the beginning."""
        now = self._look()
        with self._lock:
            if self._points and after_s < self._points[-1][0] + self._every_s:
                last, highest = self._points[-1]
                self._points[-1] = last, max(highest, now)
                return
            self._points.append((after_s, now))
            if len(self._points) > MOST:
                pairs = zip(self._points[::2], self._points[1::2], strict=False)
                halves = [(first[0], max(first[1], second[1])) for first, second in pairs]
                self._points = halves + self._points[len(halves) * 2 :]
                self._every_s *= 2

    def points(self) -> list[list[float]]:
        """Return `[seconds since the beginning, highest resident bytes]` of each stretch."""
        with self._lock:
            return [[round(after_s, 3), highest] for after_s, highest in self._points]

    def _watch(self) -> None:
        while True:
            self.add(time.monotonic() - self._began)
            time.sleep(EVERY_S)
