"""A virtual environment that holds exactly the pinned packages. Standard library and pip only."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import venv_child
from .errors import ModelOpsError

# What a venv brings along itself, and what no pin has to name.
TOOLS = ("pip", "setuptools", "wheel")
LOOK_LIMIT_S = 300.0
TAIL = 1500  # characters of pip's output


class Venv:
    """A virtual environment, made by the Python that runs this.

    Args:
        python: the environment's Python, as `FOLDER/bin/python3` or `FOLDER\\Scripts\\python.exe`.
        pins: lines of a requirements file, each `NAME==VERSION [; MARKER] --hash=...`.
        source: pip's options that say where the packages come from.
        limit_s: seconds that all of it may take.

    Raises:
        ModelOpsError: `python` is this very Python or none of an environment.
    """

    def __init__(self, python: Path, pins: str, source: Sequence[str], limit_s: float) -> None:
        self.python, self.folder = python, python.parent.parent
        self._pins, self._source = pins, source
        self._until = time.monotonic() + limit_s
        if python.parent.name.lower() not in ("bin", "scripts"):
            raise ModelOpsError(
                "this is not the Python of a virtual environment",
                where=python,
                remedy=r"Name it as FOLDER\Scripts\python.exe on Windows, FOLDER/bin/python3"
                " elsewhere.",
            )
        if self.folder == Path(sys.prefix):
            raise ModelOpsError(
                "an environment cannot make itself",
                where=python,
                remedy="Run this with the Python that it is to be made with.",
            )

    def ensure(self, check_mode: bool) -> dict[str, Any]:
        """Make the environment, or whatever of it is not right, and nothing else.

        Returns:
            `changed`; `made` (the environment itself was); `installed` and `removed` (packages,
            with their versions); `packages` (all, as pinned).

        Raises:
            ModelOpsError: pip failed, or a package is not right afterwards.
        """
        state = self._look()
        if state is not None and state["unknown"]:
            state = None
        made = state is None
        if check_mode and made:
            return {"changed": True, "made": True, "installed": {}, "removed": {}, "packages": {}}
        if state is None:
            self._make()
            state = self._looked()
        removed = dict(state["extra"])
        if removed and not check_mode:
            self._pip("uninstall", "--yes", *removed)
            # onnxruntime and onnxruntime-gpu have files in common.
            state = self._looked()
        installed = {name: state["wanted"][name] for name in state["broken"]}
        if installed and not check_mode:
            self._install(state)
            self._verify()
        return {
            "changed": bool(made or removed or installed), "made": made, "installed": installed,
            "removed": removed, "packages": state["wanted"],
        }  # fmt: skip

    def _look(self) -> dict[str, Any] | None:
        """Ask the environment what it holds; None when it is missing or too broken to say."""
        if not self.python.is_file():
            return None
        # Under Ansible the program lies in an archive: the environment gets it as text.
        asked = json.dumps({"pins": self._pins, "tools": TOOLS})
        program = inspect.getsource(venv_child)
        try:
            done = subprocess.run(  # noqa: S603 - the environment's own Python
                [self.python, "-I", "-X", "utf8", "-c", program],
                input=asked.encode(), capture_output=True, check=False, timeout=LOOK_LIMIT_S,
            )  # fmt: skip
            found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return None
        if "refused" in found:
            raise ModelOpsError(found["refused"], where="requirements")
        return found or None

    def _looked(self) -> dict[str, Any]:
        state = self._look()
        if state is None:
            raise ModelOpsError(
                "the new environment does not work",
                where=self.folder,
                remedy=f"See that {sys.executable} is whole: it was made with this Python.",
            )
        return state

    def _make(self) -> None:
        if self.folder.exists() and not (self.folder / "pyvenv.cfg").exists():
            strangers = [
                path for path in self.folder.iterdir() if path.name != self.python.parent.name
            ]
            if strangers:
                raise ModelOpsError(
                    f"this folder is no virtual environment, and holds {strangers[0].name}",
                    where=self.folder,
                    remedy="Name another folder, or empty this one.",
                )
        done = self._run([sys.executable, "-I", "-m", "venv", "--clear", str(self.folder)])
        if done.returncode or not self.python.is_file():
            said = done.stdout.strip()[-TAIL:]
            raise ModelOpsError(
                f"no environment could be made (exit code {done.returncode}: {said})",
                where=self.folder,
                remedy=f"See that nothing uses it, and that {sys.executable} has venv, ensurepip.",
            )

    def _install(self, state: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as work:
            pins = Path(work) / "pins.txt"
            pins.write_text("\n".join(state["lines"][name] for name in state["broken"]))
            self._pip(
                "install", "--no-deps", "--require-hashes", "--only-binary=:all:",
                "--force-reinstall", "--no-warn-script-location", *self._source,
                "--requirement", str(pins),
            )  # fmt: skip

    def _verify(self) -> None:
        state = self._looked()
        if state["broken"]:
            raise ModelOpsError(
                f"{', '.join(state['broken'])}: not right although pip installed it",
                where=self.folder,
                remedy="See whether an antivirus takes files away there, and run again.",
            )

    def _pip(self, *arguments: str) -> None:
        options = ("--isolated",) if "--no-index" in arguments else ()
        done = self._run([
            str(self.python), "-I", "-X", "utf8", "-m", "pip", *options,
            "--disable-pip-version-check", "--no-input", *arguments,
        ])  # fmt: skip
        if done.returncode:
            raise ModelOpsError(
                f"pip {arguments[0]} failed ({_tail(done.stdout)})",
                where=self.folder,
                remedy=_remedy(done.stdout),
            )

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        left = max(1.0, self._until - time.monotonic())
        try:
            return subprocess.run(  # noqa: S603 - this Python and that of the environment
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
                timeout=left, check=False, env={**os.environ, "PYTHONUTF8": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ModelOpsError(
                "it was not done within limit_s",
                where=self.folder,
                remedy="Raise python_runtime_limit_s, or bring the packages as a wheelhouse.",
            ) from None


def wants_gpu(accelerator: str) -> bool:
    """Tell whether the packages for a GPU are meant: by name, or because NVIDIA's driver is there.

    Args:
        accelerator: `gpu`, `cpu`, or `auto`.
    """
    if accelerator != "auto":
        return accelerator == "gpu"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and b"GPU" in done.stdout


def _tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return " ".join(errors)[-TAIL:]


def _remedy(text: str) -> str:
    if "DO NOT MATCH THE HASHES" in text:
        return (
            "A package is not the one that was pinned: somebody changed it, or it arrived damaged."
            " Bring it anew from a source that you trust."
        )
    if "No matching distribution" in text or "Could not find a version" in text:
        return (
            "See that the package index can be reached from this host, or that the wheelhouse holds"
            " every pinned wheel for this Python and this system (make wheelhouse)."
        )
    if "No space left" in text or "Errno 28" in text:
        return "Free space on this disk and run again."
    if "WinError 5" in text or "WinError 32" in text or "Permission denied" in text:
        return "See that no program uses this environment and that this user may write there."
    return "Correct what pip names and run again."
