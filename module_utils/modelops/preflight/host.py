"""What a host must have before anything is touched. Standard library only."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import memory, processor, programs
from ..base.errors import ModelOpsError
from ..base.finding import Finding, finding
from ..base.units import size
from ..measuring import needs
from ..model import declared
from . import fp32, trial

# In an environment's answer, before the rows as JSON.
MARK = "@@rows@@"
IN_ENVIRONMENT = f"""
import json, sys
asked = json.loads(sys.stdin.buffer.read())
if list(sys.version_info[:2]) < asked["oldest"]:
    sys.exit("it has Python %d.%d, which is too old" % sys.version_info[:2])
sys.path.insert(0, asked["code"])
from modelops.preflight import host
print({MARK!r} + json.dumps(host.check_inside(asked["packages"], asked["model"])))
"""


def check_python(minimum: str) -> Finding:
    """Check the version of the Python that runs this, and on Windows for what it was built."""
    wanted = tuple(int(part) for part in minimum.split("."))
    ok = sys.version_info[: len(wanted)] >= wanted
    value, threshold = platform.python_version(), f">= {minimum}"
    remedy = "Install a newer Python and point ansible_python_interpreter at it."
    if sys.platform == "win32":
        built = sysconfig.get_platform()
        ok = ok and built == "win-amd64"
        value, threshold = f"{value} {built}", f"{threshold} win-amd64"
        remedy = (
            f"Install Python {minimum} or newer for x64 (3.10 has no wheel of the onnxruntime that"
            " is pinned) and point sarai_builder_base_python or sarai_builder_python at it."
        )
        if "\\windowsapps\\" in f"{sys.executable} {sys.base_prefix}".lower():
            ok, value = False, f"{value}, of the Microsoft Store"
            remedy = (
                "The Store's Python belongs to the user who installed it. Install the one of"
                " python.org for all users: winget install --exact --id Python.Python.3.12 --scope"
                " machine"
            )
    return finding("Python", ok, f"{value} ({sys.executable})", threshold, remedy)


def check_packages(names: Iterable[str]) -> list[Finding]:
    """Check that packages are installed for the Python that runs this."""
    rows = []
    for name in names:
        version = _version(name)
        remedy = (
            f"Install it for {sys.executable}, as pinned in requirements/project.txt, or let the"
            " inventory name a Python that has it (sarai_python, sarai_builder_python)."
        )
        rows.append(
            finding(
                f"package {name}", bool(version), version or "not installed", "installed", remedy,
                name="package",
            )
        )  # fmt: skip
    return rows


def _version(package: str) -> str:
    """Return the version of the distribution that brings a package, such as onnxruntime-gpu."""
    found = importlib.metadata.packages_distributions()
    for name in (package, *found.get(package, [])):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def check_memory(model: Path, int8: Path, share: float, mode: str, samples: int) -> list[Finding]:
    """Check the memory that is available now, while the service runs, for measuring.

    Linux kills what needs more; Windows has its page file and is slow.

    Args:
        model: the FP32 model.
        int8: the INT8 model; where there is none its size is taken to be `share` of FP32's.
        mode: the way of measuring, see needs; `auto` is the first that fits.
        samples: whose outputs stay in memory in turn.
    """
    try:
        source = needs.of(model)
        made = needs.of(int8) if int8.is_file() else None
    except (ModelOpsError, OSError):
        return []  # the model's own row tells
    candidate = made or needs.Load(int(source.weights * min(share, 1.0)), 0, source.outputs)
    modes = needs.MODES if mode == needs.AUTO else [mode]
    needed = needs.table(source, candidate, samples, modes)
    available = memory.available_bytes()
    fits = [name for name, count in needed.items() if available is None or count <= available]
    value = "unknown" if available is None else size(available)
    return [
        finding(
            "memory available",
            bool(fits),
            f"{value}, for mode {fits[0]}" if fits else value,
            ", ".join(f"{name} {size(count)}" for name, count in needed.items()),
            "Free memory, or measure with less: sarai_measure_mode auto takes what fits.",
            "advice" if sys.platform == "win32" else "problem",
        )
    ]


def check_processor(machine: Mapping[str, Any]) -> list[Finding]:
    """Check that a processor has what INT8 is faster with, where the system tells its features."""
    if "features" not in machine:
        return []
    has = machine["features"]
    return [
        finding(
            "processor",
            any(name in processor.FAST for name in has),
            f"{machine['model']}: {', '.join(has) or 'none'}",
            f"one of {', '.join(processor.FAST)}",
            "INT8 gains less there: about 2 times FP32's speed, where the report promises 2.5. The"
            " required gate measures it.",
            "advice",
            "processor",
        )
    ]


def check_apart(folder: Path, other: Path) -> list[Finding]:
    """Check that two folders are not one, whatever names and links lead there."""
    same = os.path.realpath(folder) == os.path.realpath(other)
    return [
        finding(
            "folder of the builder", not same, f"{other}, which is {folder}" if same else other,
            f"another folder than {folder}",
            f"Let sarai_builder_dir be a folder of its own on the same disk: in {folder} stand"
            " the files that the service reads.",
            name="apart",
        )
    ]  # fmt: skip


def check_folder(path: Path, free: int, later: bool = False, spared: bool = False) -> list[Finding]:
    """Check that a folder exists, is writable and has `free` bytes left on its disk.

    Args:
        later: the run makes the folder: the one above it is looked at while it is missing.
        spared: artifacts are there, and without a change none are written: less room is advice.
    """
    if later and not path.exists():
        path = path.parent
    if not path.is_dir():
        remedy = "Create it, or correct the inventory's path."
        return [finding(f"folder {path}", False, "missing", "a folder", remedy)]
    writable = os.access(path, os.W_OK | os.X_OK)
    left = shutil.disk_usage(path).free
    return [
        finding(
            f"folder {path}",
            writable,
            "writable" if writable else "not writable",
            "writable",
            "Give the user of this connection the right to write there.",
        ),
        finding(
            f"disk of {path}",
            left >= free,
            f"{left:,} bytes free",
            f">= {free:,} bytes" + (" for new artifacts" if spared else ""),
            "Free space on this disk.",
            "advice" if spared else "problem",
        ),
    ]


def check_clock(now: float, told: float, skew_s: float, delay_s: float) -> Finding:
    """Compare this host's clock with what the controller's was when it began to ask.

    Nothing depends on it but the times in logs, so it is never a problem.

    Args:
        now: this host's time when it was asked, in seconds since 1970.
        told: the controller's.
        skew_s: how far apart they may be.
        delay_s: how long the question may have been on its way.
    """
    ahead = now - told
    return finding(
        "clock",
        -skew_s <= ahead <= skew_s + delay_s,
        f"{ahead:+,.0f} s against the controller, the way here included",
        f"-{skew_s:g} s to +{skew_s:g} s, and {delay_s:g} s for the way",
        "Let both hosts set their clocks by the network (NTP), so that their logs fit together.",
        "advice",
    )


def check_inside(packages: Iterable[str], model: str) -> list[Finding]:
    """Check what needs the environment's own Python, which runs this."""
    return [*check_packages(packages), fp32.check_model(Path(model))]


def check_environment(python: Path, params: Mapping[str, Any]) -> list[Finding]:
    """Check an environment with its own Python. While there is none, the model is seen from here.

    Where the phase runtime makes it (`environment_later`), what it lacks is no problem yet.
    """
    answer = programs.Answer(None, "it is not there")
    if python.is_file():
        asked = {
            "code": str(Path(__file__).resolve().parents[2]),
            "oldest": [int(part) for part in params["python"].split(".")],
            "packages": list(params["packages"]),
            "model": params["model"],
        }
        command = [python, "-I", "-X", "utf8", "-c", IN_ENVIRONMENT]
        answer = programs.ask(command, params["call_limit_s"], json.dumps(asked))
    later, rows = params["environment_later"], []
    if answer.rc == 0 and MARK in answer.text:
        rows = json.loads(answer.text.rpartition(MARK)[2].splitlines()[0])
    for row in rows:
        if later and row["id"] == "package" and row["level"] == "problem":
            row |= {"level": "advice", "remedy": "The phase runtime installs it."}
    if rows:
        return rows
    return [
        finding(
            f"environment of {python}", False, answer.text[-200:], "it works",
            "The phase runtime makes it." if later else _other_name(python),
            "advice" if later else "problem", "environment",
        ),
        fp32.check_model(Path(params["model"])),
    ]  # fmt: skip


def _other_name(python: Path) -> str:
    """Return what to do about an environment that is not there: it may be the hidden one."""
    names = {"venv": ".venv", ".venv": "venv"}
    other = Path(*(names.get(part, part) for part in python.parts))
    if other != python and other.is_file():
        return f"{other} is there: let the inventory name that one."
    return "Let the inventory name a Python that works (sarai_python, sarai_builder_python)."


def check_runs(params: Mapping[str, Any], python: Path) -> list[Finding]:
    """Check what the model says of itself: its outputs, and whether that Python can run it."""
    try:
        model = declared.read(Path(params["model"]))
    except ModelOpsError:
        return []  # the model's own row tells
    rows = fp32.check_outputs(model, params["outputs"]) + fp32.check_inputs(model, params["inputs"])
    if params["session"]:
        rows += trial.check_session(python, model, False, False, params["call_limit_s"])
    return rows


def check_host(params: Mapping[str, Any]) -> list[Finding]:
    """Run every check that the parameters of the module host_check ask for."""
    now = time.time()
    model = Path(params["model"])
    rows = [check_python(params["python"])]
    python = Path(params["environment"] or sys.executable)
    if python == Path(sys.executable):
        rows += check_inside(params["packages"], params["model"])
    else:
        rows += check_environment(python, params)
    rows += check_runs(params, python)
    rows += fp32.check_size(model, params["data_bytes"])
    int8 = Path(params["spared_by"])
    if params["measure_mode"] != "none":
        rows += check_processor(processor.cpu())
        samples = len(params["inputs"].get("samples", ())) or params["samples"]
        rows += check_memory(model, int8, params["disk_factor"], params["measure_mode"], samples)
    folder, room = Path(params["folder"]), int(fp32.model_bytes(model) * params["disk_factor"])
    rows += check_folder(folder, room, params["folder_later"], int8.is_file())
    if params["apart_from"]:
        rows += check_apart(folder, Path(params["apart_from"]))
    if params["controller_time"]:
        limits = params["clock_skew_s"], params["clock_delay_s"]
        rows.append(check_clock(now, params["controller_time"], *limits))
    return rows
