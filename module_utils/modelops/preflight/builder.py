"""What only a builder must have: a GPU that works, the way to the targets, packages."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.finding import Finding, finding
from ..base.nvidia import find_gpus
from ..base.programs import ask, banners
from ..model import declared
from . import trial, windows_host

TAIL = 300  # characters of what a program said


def check_builder(params: Mapping[str, Any]) -> list[Finding]:
    """Run every check that the parameters of the module builder_check ask for."""
    gpus, why = find_gpus(params["call_limit_s"])
    wanted = params["gpu_required"]
    rows = windows_host.check_windows(params) if sys.platform == "win32" else []
    rows.append(check_gpu(gpus, why, params["gpu_memory"], wanted))
    rows += check_session(params, bool(gpus))
    rows += check_ssh(params["ssh"], params["connect_limit_s"])
    if params["packages"] != "kept":
        rows.append(check_packages_source(params))
    if sys.platform == "win32" and params["packages"] != "kept" and not params["wheelhouse"]:
        machine = windows_host.value(windows_host.WINHTTP, "WinHttpSettings")
        own = urllib.request.getproxies()
        rows += windows_host.check_proxy(own, windows_host.winhttp_proxy(machine))
    return rows


def check_gpu(gpus: list[tuple[str, int, str]], why: str, least: int, required: bool) -> Finding:
    """Say which GPU there is. INT8 needs none: it is for measuring FP32."""
    level = "problem" if required else "advice"
    threshold = f">= {least:,} bytes of memory" if gpus or required else "none is needed"
    if not gpus:
        remedy = "See that the card is there and that NVIDIA's driver is installed and works."
        return finding("GPU", not (why or required), why or "none", threshold, remedy, level)
    text = ", ".join(
        f"{name}, {f'{memory:,} bytes' if memory else 'memory unknown'}, driver {driver}"
        for name, memory, driver in gpus
    )
    most = max(memory for _, memory, _ in gpus)
    remedy = "FP32 does not fit: it is measured on the processor."
    return finding("GPU", most == 0 or most >= least, text, threshold, remedy, level)


def check_session(params: Mapping[str, Any], gpu: bool) -> list[Finding]:
    """Say what the environment's onnxruntime uses in a session stamped as the model is.

    Args:
        gpu: whether NVIDIA's driver lists a GPU.
    """
    try:
        model = declared.read(Path(params["model"])) if params["model"] else None
    except ModelOpsError:
        model = None  # host_check tells of it
    python, limit_s = Path(params["environment"]), params["call_limit_s"]
    rows = trial.check_session(python, model, gpu, params["gpu_required"], limit_s)
    for row in rows:
        if row["id"] in (trial.REFUSED, trial.NO_BLOCKWISE) and params["packages"] != "kept":
            row |= {"level": "advice", "remedy": "The phase runtime installs another onnxruntime."}
    return rows


def check_ssh(targets: Iterable[Mapping[str, Any]], limit_s: float) -> list[Finding]:
    """Check that the targets' SSH servers answer here: a problem where the artifacts go that way.

    Args:
        targets: `name`, `host`, `port`, and `needed`.
    """
    targets = list(targets)
    places = {t["name"]: (str(t["host"]), int(t["port"])) for t in targets}
    found = banners(places, limit_s)
    return [
        finding(
            f"SSH of {t['name']}, {t['host']} port {t['port']}", *found[t["name"]],
            f"an SSH server answers within {limit_s:g} s",
            "See that its sshd runs, that the network and the firewalls between let this host"
            " through, and that transfer_host and transfer_port are right from here.",
            "problem" if t["needed"] else "advice",
        )
        for t in targets
    ]  # fmt: skip


def check_packages_source(params: Mapping[str, Any]) -> Finding:
    """Check that the environment's packages can be had, by the Python that makes it."""
    level = "problem" if params["packages"] == "lacking" else "advice"
    if params["wheelhouse"]:
        folder = Path(params["wheelhouse"])
        count = len(list(folder.glob("*.whl"))) if folder.is_dir() else 0
        value = f"{count} wheels there, {params['wheels']} on the controller"
        remedy = "Make it on the controller (make wheelhouse), or bring it there by hand."
        ok = count + params["wheels"] > 0
        return finding(f"wheelhouse {folder}", ok, value, "wheels", remedy, level)
    index = ["--index-url", params["index_url"]] if params["index_url"] else []
    answer = ask(
        [sys.executable, "-I", "-X", "utf8", "-m", "pip", "--disable-pip-version-check",
         "--no-input", "--retries", "0", "--timeout", f"{params['connect_limit_s']:g}",
         "index", "versions", *index, "onnx"],
        params["call_limit_s"],
    )  # fmt: skip
    ok = answer.rc == 0  # pip index fails where there is no such package
    errors = [line for line in answer.text.splitlines() if line.startswith("ERROR")]
    return finding(
        "package index",
        ok,
        "it answers" if ok else (errors or [answer.text or f"exit code {answer.rc}"])[-1][-TAIL:],
        f"{params['index_url'] or 'the one that pip is configured for'} has onnx",
        "Let this host reach it (proxy, certificates: pip config there), or bring the packages as"
        " a wheelhouse.",
        level,
    )
