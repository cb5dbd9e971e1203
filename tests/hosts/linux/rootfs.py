"""The root file system and the Python packages of the hosts, built once and kept under CACHE."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CACHE = Path(os.environ.get("MODELOPS_BED_CACHE", "/var/cache/modelops-bed"))
USER = "noel"
HOME = f"/home/{USER}/SARAi_v2"
TOOLS = {
    "mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "ip": "iproute2",
    "tc": "iproute2", "ssh": "openssh-client", "mkfs.ext4": "e2fsprogs", "nsenter": "util-linux",
}  # fmt: skip
PACKAGES = "systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,sudo,python3,python3-venv," \
    "iproute2,procps,acl,ca-certificates,libfaketime"  # fmt: skip
SITE = ("onnxruntime", "numpy", "flatbuffers", "protobuf", "packaging", "pyyaml")
BUILDER = ("onnx", "ml-dtypes", "typing-extensions")  # what a builder needs beside these
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "dpkg-db-backup.timer", "getty@tty1.service", "console-getty.service",
    "proc-sys-fs-binfmt_misc.mount", "proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service",
)  # fmt: skip


def run(*command: object, check: bool = True, **options: object) -> subprocess.CompletedProcess:
    options = {"text": True, "stdin": subprocess.DEVNULL, "capture_output": True, **options}
    done = subprocess.run([str(part) for part in command], check=False, **options)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
    return done


def cached() -> tuple[Path, Path]:
    """Return the root file system and the folder of Python packages, built if need be."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "-qq", "update", env=environment)
        install = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=300", "install"]
        run(*install, "--no-install-recommends", *missing, env=environment)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recipe = "".join([PACKAGES, *MASKED, USER, HOME, (HERE / "rootfs.sh").read_text()])
        rootfs = _built("rootfs", recipe, _build_rootfs)
        return rootfs, _site("site", SITE)


def builder_site() -> Path:
    """Return the folder of Python packages that make a host a builder, built if need be."""
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _site("builder", BUILDER)


def _site(kind: str, packages: tuple[str, ...]) -> Path:
    pins = _pins(packages)
    return _built(kind, pins, lambda folder: _build_site(folder, pins))


def _built(kind: str, recipe: str, build) -> Path:
    folder = CACHE / f"{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        build(part)
        part.rename(folder)
    return folder


def _build_rootfs(folder: Path) -> None:
    targets = run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)").stdout
    mirror = next(line.split()[1] for line in targets.splitlines() if line.startswith("bookworm "))
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    run(
        "mmdebstrap", "--quiet", "--variant=apt", f"--include={PACKAGES}", *excluded,
        "--aptopt=Acquire::Languages \"none\"", "--dpkgopt=force-unsafe-io",
        "bookworm", folder, mirror,
    )  # fmt: skip
    run("bash", HERE / "rootfs.sh", folder, USER, HOME, *MASKED)


def _pins(packages: tuple[str, ...]) -> str:
    """Return the lines of requirements/project.txt for some packages, with hashes."""
    text = (ROOT / "requirements/project.txt").read_text()
    pins = re.findall(r"^\S+==.*(?:\n +--hash.*)*\n", text, re.MULTILINE)
    return "".join(pin for pin in pins if pin.partition("==")[0].lower() in packages)


def _build_site(folder: Path, pins: str) -> None:
    folder.mkdir()
    wanted = folder / "requirements.txt"
    wanted.write_text(pins)
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 27, 28)]
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *platforms,
        "--target", folder, "-r", wanted,
    )  # fmt: skip
