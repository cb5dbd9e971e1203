"""A child process: how it is started, asked, and always ended.

Times are wall-clock seconds, sizes are bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from ..base import errors, memory, opener
from ..base.errors import ModelOpsError
from . import (
    neighbour,
    npz,
    session_inputs,
    session_memory,
    session_outputs,
    session_program,
)

# The child's program comes as the first line of its standard input: a command line holds no more
# than 32,767 characters on Windows. Its modules are those of a package that has no other.
# Before it takes any memory it becomes the first that the kernel kills: numpy's import alone could
# fill a host, and the kernel would then take the largest process, which is the service.
_BOOT = (
    "try:\n"
    "    with open('/proc/self/oom_score_adj', 'w') as score:\n"
    "        score.write('1000')\n"
    "except OSError:\n"
    "    pass\n"
    "import json, sys, types\n"
    "modules = json.loads(sys.stdin.readline())\n"
    "program = modules.pop('__main__')\n"
    "def package(name):\n"
    "    sys.modules[name] = types.ModuleType(name)\n"
    "    sys.modules[name].__path__ = []\n"
    "package('child')\n"
    "for name, text in modules.items():\n"
    "    package('child.' + name.partition('.')[0])\n"
    "for name, text in modules.items():\n"
    "    module = sys.modules['child.' + name] = types.ModuleType('child.' + name)\n"
    "    module.__package__ = 'child.' + name.partition('.')[0]\n"
    "    exec(compile(text, name + '.py', 'exec'), module.__dict__)\n"
    "names = {'__name__': '__main__', '__package__': 'child.measuring'}\n"
    "exec(compile(program, 'session_program.py', 'exec'), names)"
)
_STDERR_TAIL = 2000  # characters


class Child:
    """A child process that serves session_program.py's requests. A context manager: it always ends.

    Args:
        subject: what errors are about: the model.
        work: a folder for its standard error.
        timeout_s: limit of each request.
        program: the text of the child's program.
        memory_limit: bytes that it may take, where a limit can be set.
    """

    def __init__(
        self,
        subject: object,
        work: Path,
        timeout_s: float,
        program: str | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self._subject = subject
        self._timeout_s, self._limit = timeout_s, memory_limit
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        descriptor, name = tempfile.mkstemp(prefix="stderr-", dir=work)
        self._stderr = Path(name)
        with open(descriptor, "wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, fixed arguments
                [*neighbour.scope(memory_limit), sys.executable, "-I", "-X", "utf8", "-c", _BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
                encoding="utf-8",
                errors="replace",
                creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
            )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send(child_modules(program))

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(kindly=kind is None)

    def close(self, kindly: bool = True) -> None:
        """End the process: `kindly` asks it first, and kills it when it does not go."""
        if kindly:
            self._send({"do": "quit"})
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        self._kill()
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):  # what it no longer took cannot be flushed
            self._process.stdin.close()
        self._reader.join(timeout=5)
        if not self._reader.is_alive():  # else a process of the child's holds on to the pipe
            self._process.stdout.close()

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return the reply.

        Raises:
            ModelOpsError: the child refused, ended, said something else, or took too long.
        """
        self._send({"do": do, **fields})
        line = self._next_line(do)
        if line is None:
            raise self._ended(do)
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            raise self._failure(
                f"the child answered {do!r} with something else: {line[:200]!r}",
                "Look for what prints at the start of this Python (sitecustomize, .pth files).",
            )
        if "error" in reply:
            raise self._failure(f"{do} failed: {reply['error']}", _advice(do))
        return reply

    def _next_line(self, do: str) -> str | None:
        """Return the next line of the child, or None when it has ended without one."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            ended = self._process.poll() is not None  # the pipe may live on in its own children
            wait = min(1.0, max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=wait)
            if ended:
                return None
            if time.monotonic() >= deadline:
                raise self._failure(
                    f"no answer to {do!r} within {self._timeout_s:g} s",
                    "Raise timeout_s, or look at what else runs on this host.",
                )

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: reading its reply tells how
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _ended(self, do: str) -> ModelOpsError:
        try:
            code = self._process.wait(timeout=min(10, self._timeout_s))
        except subprocess.TimeoutExpired:
            return self._failure(f"the child closed its output during {do!r}", _advice(do))
        if code >= 0:
            how = f"the child ended with exit code {code} (0x{code:08X}) during {do!r}"
            return self._failure(how, _advice(do), exit_code=code)
        name = next((s.name for s in signal.Signals if s == -code), "")
        how = f"the child was killed by signal {-code} {name} during {do!r}"
        advice = "Read the end of its standard error."
        if name == "SIGKILL":
            how += ", most likely by the kernel for want of memory"
            if neighbour.scope(self._limit):
                how += f" (its limit was {self._limit} bytes)"
            advice = "Free memory (see the kernel's log), or measure one model at a time."
        return self._failure(how, advice, signal=-code)

    def _failure(self, what: str, remedy: str, **facts: Any) -> ModelOpsError:
        """Make an error that ends with the last words of the child. The child is done for."""
        self._kill()
        tail = self._stderr.read_bytes().decode("utf-8", "replace")[-_STDERR_TAIL:].strip()
        if tail:
            remedy = f"{remedy} Its standard error ends with: {tail}"
        return ModelOpsError(what, where=self._subject, remedy=remedy, stderr=tail, **facts)


def _advice(do: str) -> str:
    return {
        "start": "Install onnxruntime and numpy for this Python.",
        "load": "Check that the model and its .data file are whole and fit this onnxruntime.",
    }.get(do, "Check that ranges, shapes and inputs fit the model.")


def child_modules(main: str | None = None) -> dict[str, str]:
    """Return the texts of the child's modules by name; `__main__` is session_program.py, or `main`.

    They are found also in a zip, and with a loader that holds them in memory.

    Raises:
        ModelOpsError: this package's loader keeps no source.
    """
    imported = {
        "base.memory": memory,
        "base.errors": errors,
        "base.opener": opener,
        "measuring.npz": npz,
        "measuring.session_inputs": session_inputs,
        "measuring.session_memory": session_memory,
        "measuring.session_outputs": session_outputs,
    }
    texts = {name: _source(module) for name, module in imported.items()}
    return {**texts, "__main__": _source(session_program) if main is None else main}


def _source(module: ModuleType) -> str:
    loader = module.__spec__.loader if module.__spec__ else None
    get_source = getattr(loader, "get_source", None)
    source = get_source(module.__name__) if get_source else None
    if not source:
        raise ModelOpsError(
            "the program of the child process cannot be read",
            where=module.__name__,
            remedy="Load the package with a loader that has get_source.",
        )
    return str(source)
