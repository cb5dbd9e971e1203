"""What preflight looks at on a builder that runs Windows, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from ..base import app_control, memory
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
LANGUAGE_MODE = [
    "powershell.exe", "-NoProfile", "-NonInteractive", "-Command",
    "$ExecutionContext.SessionState.LanguageMode",
]  # fmt: skip
LANGUAGE_MODES = ("FullLanguage", "ConstrainedLanguage", "RestrictedLanguage", "NoLanguage")
RESTARTS = (
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
)
POWER = r"SYSTEM\CurrentControlSet\Control\Power"
# The group "sleep" and its setting "sleep after", as `powercfg /query` names them.
SLEEP = r"238c9fa8-0aad-41ed-83f4-97be242c8f20\29f6c1db-86da-48c5-9fdb-f2b67b1f44da"
WINHTTP = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Internet Settings\Connections"
# FILE_ATTRIBUTE_OFFLINE, RECALL_ON_OPEN and RECALL_ON_DATA_ACCESS: the content is somewhere else.
NOT_HERE = 0x1000 | 0x40000 | 0x400000
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
        *(check_quotas(quotas(wanted), wanted) if params["windows_over"] == "winrm" else []),
        *check_app_control(value(app_control.STATE, "VerifiedAndReputablePolicyState")),
        *check_language_mode(ask(LANGUAGE_MODE, params["call_limit_s"]).text),
        check_long_paths(value(FILE_SYSTEM, "LongPathsEnabled")),
        check_antivirus(folders, excluded()),
        check_restart([key for key in RESTARTS if exists(key)]),
        *check_sleep(sleep_after()),
        *check_cloud([params["folder"], *([params["model"]] if params["model"] else [])]),
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


def exists(key: str) -> bool:
    """Tell whether the registry's local machine has a key that may be opened."""
    if sys.platform != "win32":
        return False
    import winreg

    try:
        winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key).Close()
    except OSError:
        return False
    return True


def sleep_after() -> int | None:
    """Return the seconds without input after which a PC on mains sleeps; None where unknown.

    A setting that nobody changed stands in the defaults of its scheme. 0 is never.
    """
    scheme = value(rf"{POWER}\User\PowerSchemes", "ActivePowerScheme")
    own = value(rf"{POWER}\User\PowerSchemes\{scheme}\{SLEEP}", "ACSettingIndex")
    default = rf"{POWER}\PowerSettings\{SLEEP}\DefaultPowerSchemeValues\{scheme}"
    seconds = value(default, "AcSettingIndex") if own is None else own
    return None if seconds is None else int(seconds)


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


def quotas(names: Iterable[str]) -> dict[str, int]:
    """Return limits of a WinRM shell, as far as this user may read them in the registry.

    The other ways need an administrator (the drive WSMan:), or VBScript, which Windows gives up.
    """
    found: dict[str, int] = {}
    # A policy is stronger than what was set by hand.
    for key in (WINRS_POLICY, WINRS):
        for name in names:
            known = value(key, name)
            if known is not None:
                found.setdefault(name, int(known))
    return found


def check_quotas(found: Mapping[str, int], wanted: Mapping[str, int]) -> list[Finding]:
    """Check the limits of a WinRM shell; 0 is none. One that may not be read is no problem."""
    rows = []
    unknown = [name for name in wanted if name not in found]
    if unknown:
        remedy = (
            "This user may not read them, or nobody set them. An administrator sees them there, in"
            r" PowerShell, with: Get-ChildItem WSMan:\localhost\Shell"
        )
        least = ", ".join(f">= {wanted[name]}" for name in unknown)
        check = f"WinRM {', '.join(unknown)}"
        rows.append(finding(check, False, "unknown", least, remedy, "advice"))
    for name, least_of_it in wanted.items():
        if name in found:
            ok = found[name] == 0 or found[name] >= least_of_it
            remedy = (
                "As administrator there, in PowerShell: Set-Item"
                rf" WSMan:\localhost\Shell\{name} {least_of_it}, or the same in the group policy"
                " that sets it."
            )
            rows.append(finding(f"WinRM {name}", ok, found[name], f">= {least_of_it}", remedy))
    return rows


def check_app_control(state: Any) -> list[Finding]:
    """Say whether Smart App Control may block the packages' machine code.

    Args:
        state: 1 on, 2 evaluation, 0 off; None where Windows has none, or it may not be read.
    """
    if state not in (0, 1, 2):
        return []
    words = {0: "off", 1: "on", 2: "evaluation: Windows may turn it on by itself"}
    row = ("Smart App Control", state == 0, words[state], "off", app_control.REMEDY, "advice")
    return [finding(*row, name="app_control")]


def check_language_mode(said: str) -> list[Finding]:
    """Say whether a policy restricts PowerShell, which Ansible's own modules are written in.

    Args:
        said: what PowerShell answered; no row where that is no mode.
    """
    mode = next((mode for mode in LANGUAGE_MODES if mode == said.strip()), "")
    if not mode:
        return []
    remedy = (
        "A policy (AppLocker, App Control for Business) restricts PowerShell there, and Ansible's"
        " modules need all of it. Let the administrator of that PC exempt this user."
    )
    ok = mode == LANGUAGE_MODES[0]
    return [finding("PowerShell's language mode", ok, mode, LANGUAGE_MODES[0], remedy)]


def winhttp_proxy(setting: Any) -> str:
    """Return the proxy that an administrator set for Windows' own services (netsh winhttp).

    Args:
        setting: the value WinHttpSettings: three numbers of 32 bits, the last of them flags (2 for
            a proxy), then the length of a text and the text; None where it may not be read.
    """
    if not isinstance(setting, bytes) or len(setting) < 16 or not setting[8] & 2:
        return ""
    length = int.from_bytes(setting[12:16], "little")
    return setting[16 : 16 + length].decode("ascii", "replace")


def check_proxy(own: Mapping[str, str], machine: str) -> list[Finding]:
    """Say over which proxy this user's pip goes, or that it goes past the one of this machine.

    Args:
        own: what Python finds for this user, in the environment and the registry.
        machine: that of Windows' own services, which Python does not know of.
    """
    # What stands before an @ is a password.
    known = sorted({url.rpartition("@")[2] for name, url in own.items() if name != "no"})
    if not known and not machine:
        return []
    remedy = (
        f"Windows' own services go over {machine}, and this user's Python does not know of it. If"
        " the package index is not reached: set HTTPS_PROXY for the whole machine there, or let"
        " pip know it (pip config --global set global.proxy)."
    )
    text = ", ".join(known) or "none for this user"
    return [finding("proxy", bool(known), text, "one that pip knows of", remedy, "advice")]


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


def check_restart(pending: Iterable[str]) -> Finding:
    """Say whether Windows waits for a restart, which it may make by itself during a run."""
    waits = bool(list(pending))
    return finding(
        "restart of Windows",
        not waits,
        "pending" if waits else "none is pending",
        "none is pending",
        "Restart Windows before a long run: it may do so by itself, and an update that is half done"
        " holds files open.",
        "advice",
    )


def check_sleep(seconds: int | None) -> list[Finding]:
    """Say whether the PC sleeps by itself: no input comes from a run, so to Windows it is idle."""
    if seconds is None:
        return []
    remedy = (
        "A job goes on after the sleep, but nobody hears of it until then. As administrator there,"
        " before a run: powercfg /change standby-timeout-ac 0; after it your own value again."
    )
    text = f"after {seconds / 60:g} minutes" if seconds else "never"
    return [finding("sleep on mains", seconds == 0, text, "never", remedy, "advice")]


def check_cloud(paths: Iterable[str]) -> list[Finding]:
    """Say which paths OneDrive keeps: it copies what is written there, and may take it away."""
    rows = []
    for path in paths:
        away = _attributes(Path(path)) & NOT_HERE
        kept = any(part.lower().startswith("onedrive") for part in PureWindowsPath(path).parts)
        if away or kept:
            value = "its content is not on this PC" if away else "it is kept by OneDrive"
            remedy = (
                "Let OneDrive keep it on this PC (Always keep on this device), or better move it to"
                r" a folder of no cloud, such as C:\SARAi_v2."
            )
            level = "problem" if away else "advice"
            rows.append(finding(f"cloud: {path}", False, value, "a local folder", remedy, level))
    return rows


def _attributes(path: Path) -> int:
    try:
        return int(getattr(path.stat(), "st_file_attributes", 0))
    except OSError:
        return 0  # that it is missing is another row


def _folder(name: str) -> str:
    return name.replace("/", "\\").rstrip("\\").lower() + "\\"
