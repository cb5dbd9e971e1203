"""A secret of the tests, and a watch that sees it in the words or environment of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

CANARY = "c4nary9f3a"


class Watch:
    """Looks at every process of this machine, those of its guests too, again and again, for a word.

    Args:
        meant: tells of a command line that may hold it.
    """

    def __init__(self, word: str = CANARY, meant: Callable[[str], bool] = lambda _: False) -> None:
        self.seen: set[str] = set()
        self.looks = 0
        self._word, self._meant = word.encode(), meant
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.05):
            self.looks += 1
            for process in Path("/proc").glob("[0-9]*"):
                for kind in ("cmdline", "environ"):
                    try:
                        content = (process / kind).read_bytes()
                    except OSError:
                        continue
                    text = content.replace(b"\0", b" ").decode(errors="replace")
                    if self._word in content and not self._meant(text):
                        self.seen.add(f"{kind}: {text[:2000]}")
