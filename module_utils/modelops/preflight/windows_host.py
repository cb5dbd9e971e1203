"""What preflight looks at on a builder that runs Windows, and nowhere else."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base import memory
from ..base.finding import Finding, finding
from ..base.programs import ask

VERSION = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
FILE_SYSTEM = r"SYSTEM\CurrentControlSet\Control\FileSystem"
WINRS = r"SOFTWARE\Microsoft\Windows\CurrentVersion\WSMAN\WinRS"
WINRS_POLICY = r"SOFTWARE\Policies\Microsoft\Windows\WinRM\Service\WinRS"
EXCLUSIONS = (
    r"SOFTWARE\Microsoft\Windows Defender\Exclusions\Paths",
    r"SOFTWARE\Policies\Microsoft\Windows Defender\Exclusions\Paths",
)
ELEVEN = 22000  # its first build; the registry calls it Windows 10 all the same


def check_windows(params: Mapping[str, Any]) -> list[Finding]:
    """Run every check of Windows that the parameters of the module builder_check ask for."""
    wanted = {
        "MaxMemoryPerShellMB": params["winrm_memory_mb"],
        "MaxProcessesPerShell": params["winrm_processes"],
        "MaxShellsPerUser": params["winrm_shells"],
    }
    home = Path(params["environment"]).parent
    folders = [params["folder"], str(home.parent if home.name.lower() == "scripts" else home)]
    return [
        check_version(params["windows_build"]),
        *check_memory(params["memory"], params["memory_installed"]),
        *check_quotas(quotas(wanted, params["call_limit_s"]), wanted),
        check_long_paths(value(FILE_SYSTEM, "LongPathsEnabled")),
        check_antivirus(folders, excluded()),
    ]


def value(key: str, name: str) -> Any:
    """Return a value of the registry's local machine; None where there is none to read."""
    if sys.platform != "win32":
        return None
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
            return winreg.QueryValueEx(opened, name)[0]
    except OSError:
        return None


def excluded() -> list[str] | None:
    """Return the folders that Microsoft Defender leaves alone; None where that may not be read."""
    if sys.platform != "win32":
        return None
    import winreg

    found: list[str] | None = None
    for key in EXCLUSIONS:
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key) as opened:
                count = winreg.QueryInfoKey(opened)[1]
                names = [winreg.EnumValue(opened, number)[0] for number in range(count)]
        except OSError:
            continue
        found = [*(found or []), *names]
    return found


def check_version(oldest: int) -> Finding:
    """Check the build of Windows, which unlike its name says what it is."""
    build = str(value(VERSION, "CurrentBuild") or "unknown")
    known = build.isdigit()
    name = f"Windows {11 if int(build) >= ELEVEN else 10}, " if known else ""
    return finding(
        "Windows",
        known and int(build) >= oldest,
        f"{name}build {build}",
        f"build >= {oldest}",
        "Update Windows.",
        "problem" if known else "advice",
    )


def check_memory(least: int, installed: int) -> list[Finding]:
    """Check the memory for quantizing, and say what comparing with FP32 is comfortable with."""
    available, total = memory.memory_status() or (None, None)
    return [
        finding(
            "memory for quantizing",
            available is None or available >= least,
            "unknown" if available is None else f"{available:,} bytes available",
            f">= {least:,} bytes",
            "Close other programs.",
        ),
        finding(
            "memory installed",
            total is None or total >= installed,
            "unknown" if total is None else f"{total:,} bytes",
            f">= {installed:,} bytes to compare with FP32",
            "Quantizing does not need it. Where FP32 is measured, close other programs, and let"
            " Windows have a page file.",
            "advice",
        ),
    ]


def quotas(names: Iterable[str], limit_s: float) -> dict[str, int]:
    """Return limits of a WinRM shell, as far as this user may read them."""
    found = {}
    script = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "winrm.vbs")
    tool = shutil.which("cscript")
    if tool and script.is_file():
        command = [tool, "//nologo", script, "get", "winrm/config/winrs"]
        found = parse_winrm(ask(command, limit_s).text)
    # A policy is stronger than what was set by hand.
    for key in (WINRS, WINRS_POLICY):
        for name in names:
            known = value(key, name)
            if known is not None and (key == WINRS_POLICY or name not in found):
                found[name] = int(known)
    return found


def parse_winrm(text: str) -> dict[str, int]:
    """Return the numbers of what `winrm get` printed, such as `MaxShellsPerUser = 30`."""
    lines = re.findall(r'^\s*(\w+) = (\d+)(?: \[Source="\w+"\])?\s*$', text, re.MULTILINE)
    return {name: int(number) for name, number in lines}


def check_quotas(found: Mapping[str, int], wanted: Mapping[str, int]) -> list[Finding]:
    """Check the limits of a WinRM shell; 0 is none. One that may not be read is no problem."""
    rows = []
    unknown = [name for name in wanted if name not in found]
    if unknown:
        remedy = (
            "This user may not read them. An administrator sees them there with: winrm get"
            " winrm/config/winrs"
        )
        least = ", ".join(f">= {wanted[name]}" for name in unknown)
        check = f"WinRM {', '.join(unknown)}"
        rows.append(finding(check, False, "unknown", least, remedy, "advice"))
    for name, least_of_it in wanted.items():
        if name in found:
            ok = found[name] == 0 or found[name] >= least_of_it
            remedy = (
                "As administrator there, in PowerShell: winrm set winrm/config/winrs"
                f" '@{{{name}=\"{least_of_it}\"}}', or the same in the group policy that sets it."
            )
            rows.append(finding(f"WinRM {name}", ok, found[name], f">= {least_of_it}", remedy))
    return rows


def check_long_paths(enabled: Any) -> Finding:
    """Say whether every program may use paths of more than 260 characters."""
    return finding(
        "long paths",
        enabled == 1,
        "on" if enabled == 1 else "off",
        "on",
        r"As administrator there: reg add HKLM\SYSTEM\CurrentControlSet\Control\FileSystem /v"
        " LongPathsEnabled /t REG_DWORD /d 1 /f. Or keep the environment's path short: pip needs"
        " it for packages deep below it.",
        "advice",
    )


def check_antivirus(folders: Iterable[str], known: Iterable[str] | None) -> Finding:
    """Say which folders an antivirus slows down, or may take files from."""
    spared = [_folder(name) for name in known or ()]
    open_ = [name for name in folders if not any(_folder(name).startswith(s) for s in spared)]
    return finding(
        "antivirus",
        not open_,
        "Microsoft Defender leaves the folders alone" if not open_
        else "unknown" if known is None
        else f"not excluded: {', '.join(open_)}",
        "model and environment excluded",
        "It reads the model whole each time that it is written, and holds new files open. As"
        " administrator there, if you agree: "
        + "; ".join(f"Add-MpPreference -ExclusionPath '{name}'" for name in open_),
        "advice",
    )  # fmt: skip


def _folder(name: str) -> str:
    return name.replace("/", "\\").rstrip("\\").lower() + "\\"
