"""Programs and ports outside of this process, each asked with a limit. Standard library only."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LONGEST = 1 << 20  # bytes of the end of what a program says
SETTLE_S = 5  # until a program that was ended is gone


class Answer(NamedTuple):
    """What a program said: its exit code, None without one, and its output or why there is none."""

    rc: int | None
    text: str


def ask(
    command: Sequence[object], limit_s: float, given: str | bytes = "", **environment: str
) -> Answer:
    """Run a program and return what it said, standard error among it.

    Args:
        limit_s: seconds after which it is ended.
        given: its standard input.
        environment: further variables.
    """
    # Files, not pipes: a grandchild may hold a pipe open for as long as it likes.
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as output:
        stdin.write(given.encode() if isinstance(given, str) else given)
        stdin.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603 - named by the caller
                [str(part) for part in command], stdin=stdin, stdout=output,
                stderr=subprocess.STDOUT, env={**os.environ, **environment},
            )  # fmt: skip
        except OSError as error:
            return Answer(None, f"{command[0]} cannot be started ({error.strerror or error})")
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SETTLE_S)
            return Answer(None, f"no answer within {limit_s:g} s")
        output.seek(0)
        # onnxruntime logs in UTF-16 on Windows, whatever else stands there.
        output.seek(max(0, os.fstat(output.fileno()).st_size - LONGEST))
        said = output.read(LONGEST).replace(b"\0", b"")
        return Answer(code, said.decode("utf-8", "replace").strip())


def banners(places: Mapping[str, tuple[str, int]], limit_s: float) -> dict[str, tuple[bool, str]]:
    """Ask SSH servers, all at once, who they are.

    Returns:
        By name whether an SSH server answered, and its words or why it did not.
    """
    late = False, f"no answer within {limit_s:g} s"
    found = dict.fromkeys(places, late)

    def look(name: str, host: str, port: int) -> None:
        try:
            found[name] = _banner(host, port, limit_s)
        except TimeoutError:
            found[name] = late
        except (OSError, UnicodeError) as error:
            found[name] = False, getattr(error, "strerror", None) or str(error)

    # Threads that need not end: to look a name up has no limit of its own.
    threads = [
        threading.Thread(target=look, args=(name, *place), daemon=True)
        for name, place in places.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def _banner(host: str, port: int, limit_s: float) -> tuple[bool, str]:
    deadline = time.monotonic() + limit_s
    with socket.create_connection((host, port), limit_s) as link:
        said = b""
        # RFC 4253: lines may stand before the one that begins with SSH-.
        while time.monotonic() < deadline and len(said) < 1 << 14:
            link.settimeout(max(0.1, deadline - time.monotonic()))
            block = link.recv(1024)
            said += block
            for line in said.split(b"\n")[:-1]:
                if line.startswith(b"SSH-"):
                    return True, line.decode("ascii", "replace").strip()
            if not block:
                break
    start = said[:60].decode("ascii", "replace").strip()
    return False, f"no SSH server ({start!r})" if start else "closed without a word"
