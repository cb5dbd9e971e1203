"""Which files somebody opens, as Linux's inotify(7) tells. Standard library only.

It does not tell who opened a file: it is evidence beside other evidence, not proof by itself.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_IN_OPEN = 0x20
_IN_NONBLOCK, _IN_CLOEXEC = os.O_NONBLOCK if os.name == "posix" else 0, 0o2000000
_EVENT = struct.Struct("iIII")  # inotify(7): watch, mask, cookie, length of the name that follows


class Watch:
    """Sees files being opened, from now until `close`, by whatever path.

    Attributes:
        works: False where the kernel does not watch for us; nothing is then seen.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._files: dict[int, Path] = {}
        self._seen: set[Path] = set()
        self._handle = -1
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            return
        self._handle = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        wanted = list(files)
        for path in wanted if self.works else []:
            number = libc.inotify_add_watch(self._handle, os.fsencode(path), _IN_OPEN)
            if number >= 0:
                self._files[number] = path
        if len(self._files) < len(wanted):
            self.close()  # to see some of them would be to take silence for an answer

    @property
    def works(self) -> bool:
        return self._handle >= 0

    def opened(self) -> set[Path]:
        """Return what was opened so far."""
        while self.works:
            try:
                events = os.read(self._handle, 4096)
            except BlockingIOError:
                break
            at = 0
            while at < len(events):
                number, _, _, length = _EVENT.unpack_from(events, at)
                self._seen.update({self._files[number]} if number in self._files else set())
                at += _EVENT.size + length
        return set(self._seen)

    def close(self) -> None:
        """Stop watching."""
        if self.works:
            os.close(self._handle)
        self._handle = -1
