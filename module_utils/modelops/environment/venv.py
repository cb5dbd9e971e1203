"""A virtual environment that holds exactly the pinned packages. Standard library and pip only."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.files import sha256_file
from ..base.nvidia import find_gpus
from . import venv_program
from .pins import Pin, read_pins, this_environment

# What a venv brings along itself, and what no pin has to name.
TOOLS = ("pip", "setuptools", "wheel")
TAIL = 1500  # characters of pip's output
# Faults of the system in pip's output: ENOSPC and ERROR_DISK_FULL; EACCES, ERROR_ACCESS_DENIED and
# ERROR_SHARING_VIOLATION.
_FULL = re.compile(r"\b(Errno 28|WinError 112)\b")
_IN_USE = re.compile(r"\b(Errno 13|WinError 5|WinError 32)\b")
DRIVER_LIMIT_S = 30  # until NVIDIA's driver has said which GPUs there are

Packages = dict[str, tuple[str, bool | None]]


class Venv:
    """A virtual environment, made by the Python that runs this.

    Args:
        python: the environment's Python, as `FOLDER/bin/python3` or `FOLDER\\Scripts\\python.exe`.
        pins: lines of a requirements file, each `NAME==VERSION [; MARKER] --hash=sha256:...`.
        wheelhouse: a folder of wheels; with it no package index is asked.
        index_url: the package index; without it the one that pip is configured for.
        limit_s: seconds that all of it may take.

    Raises:
        ModelOpsError: `python` is this very Python or none of an environment, or `pins` are none.
    """

    def __init__(
        self, python: Path, pins: str, wheelhouse: Path | None, index_url: str, limit_s: float
    ) -> None:
        self.python, self.folder = python, python.parent.parent
        self._pins = read_pins(pins, this_environment())
        self._wheelhouse, self._index_url = wheelhouse, index_url
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
            `changed`; `made` (the environment itself was); `installed`, `removed`, `packages` (all
            that are pinned) and `lacking` (to be installed and not in the wheelhouse), each with
            its version.

        Raises:
            ModelOpsError: the folder is somebody's, the wheelhouse lacks something, pip failed, or
                a package is not right afterwards.
        """
        found = self._look()
        extra = {
            name: version
            for name, (version, _) in sorted((found or {}).items())
            if name not in self._pins and name not in TOOLS
        }
        broken = self._broken(found or {})
        if found is None:
            self._require_ours()
        told: dict[str, Any] = {
            "changed": bool(found is None or extra or broken), "made": found is None,
            "installed": _versions(broken), "removed": extra,
            "packages": _versions(self._pins.values()), "lacking": _versions(self._lacking(broken)),
        }  # fmt: skip
        if check_mode or not told["changed"]:
            return told
        if told["lacking"]:
            raise ModelOpsError(
                f"no wheel here is the pinned one of {_listed(told['lacking'])}",
                where=self._wheelhouse,
                remedy="Bring it there anew (make wheelhouse): it is missing, or not what was"
                " pinned.",
            )
        if found is None:
            self._make()
        if extra:
            self._pip("uninstall", "--yes", *extra)
            # onnxruntime and onnxruntime-gpu have files in common.
            broken = self._broken(self._looked())
        if broken:
            self._install(broken)
        left = self._broken(self._looked())
        if left:
            raise ModelOpsError(
                f"{_listed(_versions(left))}: not right although pip installed it",
                where=self.folder,
                remedy="See whether an antivirus takes files away there, and run again.",
            )
        return told | {"installed": _versions(broken)}

    def _broken(self, found: Packages) -> list[Pin]:
        """Return what is missing, of another version, or has a file that is not as installed."""
        return [p for n, p in sorted(self._pins.items()) if found.get(n) != (p.version, True)]

    def _lacking(self, pins: Sequence[Pin]) -> list[Pin]:
        if self._wheelhouse is None or not pins:
            return []
        there = {sha256_file(wheel) for wheel in self._wheelhouse.glob("*.whl")}
        return [pin for pin in pins if not pin.sha256 & there]

    def _look(self) -> Packages | None:
        """Ask the environment what it holds; None when it must be made anew."""
        if not self.python.is_file():
            return None
        # Under Ansible the program lies in an archive: the environment gets it as text.
        program = inspect.getsource(venv_program)
        try:
            done = self._run([str(self.python), "-I", "-X", "utf8", "-c", program])
            told = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
        except (OSError, ValueError, IndexError):
            return None
        # Without its pyvenv.cfg it would be the Python that it was made with.
        if told.get("python") != sys.version or not self.folder.samefile(told["prefix"]):
            return None
        packages = {name: (version, whole) for name, (version, whole) in told["packages"].items()}
        mendable = all(whole is not None for _, whole in packages.values())
        return packages if mendable and packages.get("pip", ("", False))[1] else None

    def _looked(self) -> Packages:
        packages = self._look()
        if packages is None:
            raise ModelOpsError(
                "the environment does not work although it was made",
                where=self.folder,
                remedy=f"See that {sys.executable} is whole: it was made with this Python.",
            )
        return packages

    def _require_ours(self) -> None:
        """Refuse a folder that is no environment, unless there is nothing in it to lose."""
        if self.folder.exists() and not (self.folder / "pyvenv.cfg").exists():
            names = {path.name for path in self.folder.iterdir()} - {self.python.parent.name}
            if names:
                raise ModelOpsError(
                    f"this folder is no virtual environment, and holds {min(names)}",
                    where=self.folder,
                    remedy="Name another folder, or empty this one.",
                )

    def _make(self) -> None:
        done = self._run([sys.executable, "-I", "-m", "venv", "--clear", str(self.folder)])
        if done.returncode or not self.python.is_file():
            said = done.stdout.strip()[-TAIL:]
            raise ModelOpsError(
                f"no environment could be made (exit code {done.returncode}: {said})",
                where=self.folder,
                remedy=f"See that nothing uses it, and that {sys.executable} has venv, ensurepip.",
            )

    def _install(self, pins: Sequence[Pin]) -> None:
        source = ["--index-url", self._index_url] if self._index_url else []
        if self._wheelhouse:
            source = ["--isolated", "--no-index", "--find-links", str(self._wheelhouse)]
        with tempfile.TemporaryDirectory() as work:
            file = Path(work) / "pins.txt"
            file.write_text("".join(f"{pin.line}\n" for pin in pins))
            self._pip(
                "install", "--no-deps", "--require-hashes", "--only-binary=:all:",
                "--force-reinstall", "--no-warn-script-location", *source,
                "--requirement", str(file),
            )  # fmt: skip

    def _pip(self, *arguments: str) -> None:
        done = self._run([
            str(self.python), "-I", "-X", "utf8", "-m", "pip", "--disable-pip-version-check",
            "--no-input", *arguments,
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
    return bool(find_gpus(DRIVER_LIMIT_S)[0])


def _versions(pins: Iterable[Pin]) -> dict[str, str]:
    return {pin.name: pin.version for pin in pins}


def _listed(packages: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return " ".join(errors)[-TAIL:]


def _remedy(text: str) -> str:
    """Return the advice on what pip said: the one place that reads its words, as pip has no codes.

    They are English everywhere. A fault of the system is told by its number, for its words are not.
    """
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
    if _FULL.search(text):
        return "Free space on this disk and run again."
    if _IN_USE.search(text):
        return "See that no program uses this environment and that this user may write there."
    return "Correct what pip names and run again."
