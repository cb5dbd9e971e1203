"""A folder of pinned wheels on the controller, for a builder without a package index.

python -m modelops.environment.wheelhouse FOLDER REQUIREMENTS... --platform win_amd64 --python 3.12
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..base.errors import ModelOpsError, raise_all
from ..base.files import remove, sha256_file
from .pins import normal, read_pins

# What markers ask for, by the platform tag of wheels.
SYSTEMS = {
    "win_amd64": {"os_name": "nt", "sys_platform": "win32", "platform_system": "Windows",
                  "platform_machine": "AMD64"},
    "manylinux.*_x86_64": {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux",
                           "platform_machine": "x86_64"},
}  # fmt: skip


def download(folder: Path, requirements: Iterable[Path], platforms: list[str], python: str) -> None:
    """Bring the pinned wheels of a platform and a Python into a folder, and nothing else.

    Args:
        platforms: tags of wheels, such as `win_amd64`; several for Linux, from new to old.
        python: the version of the builder's CPython, such as `3.12`.

    Raises:
        ModelOpsError: pip failed, and has said why.
    """
    environment = environment_of(platforms[0], python)
    known: set[str] = set()
    for file in requirements:
        pins = read_pins(file.read_text(encoding="utf-8"), environment)
        known |= {digest for pin in pins.values() for digest in pin.sha256}
        with tempfile.TemporaryDirectory() as work:
            # Without markers: pip would read them for the Python that it runs in.
            chosen = Path(work) / file.name
            chosen.write_text("".join(f"{pin.line}\n" for pin in pins.values()))
            command = [
                sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
                "--only-binary=:all:", "--require-hashes", "--implementation", "cp",
                "--python-version", python, *(f"--platform={tag}" for tag in platforms),
                "--dest", str(folder), "--requirement", str(chosen),
            ]  # fmt: skip
            if subprocess.run(command, check=False).returncode:  # noqa: S603 - this Python
                raise ModelOpsError(
                    "pip download failed",
                    where=file,
                    remedy="Look above for what pip said, and run again: what is there is kept.",
                )
    for wheel in folder.glob("*.whl"):
        if sha256_file(wheel) not in known:
            remove(wheel)


def environment_of(platform: str, python: str) -> dict[str, str]:
    """Return what markers ask for, of CPython on a platform.

    Raises:
        ModelOpsError: the platform is none that a builder may have.
    """
    for tag, system in SYSTEMS.items():
        if re.fullmatch(tag, platform):
            return {
                **system, "platform_python_implementation": "CPython",
                "implementation_name": "cpython", "python_full_version": python,
                "python_version": ".".join(python.split(".")[:2]),
            }  # fmt: skip
    remedy = "Name win_amd64, or one like manylinux_2_28_x86_64."
    raise ModelOpsError("a builder has no such platform", where=platform, remedy=remedy)


def find(folder: Path, pins: str, packages: Mapping[str, str]) -> list[Path]:
    """Return the wheels of packages in a folder, each verified by its hash.

    Args:
        pins: lines of requirements files that pin them.
        packages: the versions wanted, by name.

    Raises:
        ModelOpsError: some are not there, or are not what was pinned: all of them at once.
    """
    pinned = set(re.findall("--hash=sha256:([0-9a-f]{64})", pins))
    wheels: list[Path] = []
    problems: list[ModelOpsError] = []
    for name, version in packages.items():
        pattern = re.compile(rf"{re.escape(version)}-.+\.whl")
        there = [
            wheel
            for wheel in sorted(folder.glob("*.whl"))
            if normal(wheel.name.partition("-")[0]) == name
            and pattern.fullmatch(wheel.name.partition("-")[2])
        ]
        right = [wheel for wheel in there if sha256_file(wheel) in pinned]
        wheels += right
        if not right:
            what = f"{there[0].name} is not the pinned one" if there else f"no {name} {version}"
            remedy = "Run: make wheelhouse"
            problems.append(ModelOpsError(what, where=folder, remedy=remedy))
    raise_all(problems)
    return wheels


def main() -> None:
    """Download as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("requirements", type=Path, nargs="+")
    parser.add_argument("--platform", nargs="+", default=["win_amd64"])
    parser.add_argument("--python", default="3.12")
    given = parser.parse_args()
    try:
        download(given.folder, given.requirements, given.platform, given.python)
    except ModelOpsError as error:
        sys.exit(f"ERROR: {error}")
    wheels = list(given.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{given.folder}: {len(wheels)} wheels, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
