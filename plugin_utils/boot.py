"""What the bridge hands to the Python of a Windows host, before anything of the project is there.

Sent with each call as text. It takes the code over when it comes with the call, and lets
`modelops.execution.windows_jobs` answer. Any Python from 3.6 on runs it, so that an old one is
refused in words.
"""

import base64
import hashlib
import io
import json
import os
import shutil
import struct
import sys
import time
import traceback
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "@@modelops answers@@"
OLDEST = (3, 11)
SHORT = (
    "Python had no memory left, is not whole, or Windows' application control blocks a part of it."
    " See how much WinRM, if used, allows a shell (MaxMemoryPerShellMB in"
    " WSMan:\\localhost\\Shell), what else runs there, that this Python starts by hand, and"
    " Windows Security > App & browser control."
)


def main(call: "dict[str, Any]") -> None:
    """Answer a call: one line of ASCII on standard output, after the mark."""
    # What libraries print goes to standard error; only the answer takes the real output.
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)

    def say(reply: "dict[str, Any]") -> None:
        rest = ("\n" + MARK + json.dumps(reply) + "\n").encode("ascii")
        while rest:
            rest = rest[os.write(real, rest) :]

    try:
        reply = answer(call, say)
    except Exception as error:
        text = explained(error)
        reply = {"failed": True, "msg": text, "exception": traceback.format_exc()}
    say(reply)


def explained(error: Exception) -> str:
    """Return what to say of an error: of a policy's, of memory, or its own words."""
    text = f"{type(error).__name__}: {error}"
    try:  # the code may not be there yet, and may need what does not load
        from modelops.base import app_control

        file = app_control.blocked(error)
        if file:
            return app_control.told(file)
    except Exception as other:
        text += f", and then {type(other).__name__}: {other}"
    # All that is imported here is Python's own: what is there and does not load is not whole.
    unloaded = isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError)
    return f"{SHORT} ({text})" if isinstance(error, MemoryError) or unloaded else text


def answer(call: "dict[str, Any]", say: "Callable[[dict[str, Any]], None]") -> "dict[str, Any]":
    """Return the reply to a call."""
    problem = unfit()
    if problem:
        return {"failed": True, "msg": problem}
    base = os.path.join(local_folder(), "modelops")
    code = os.path.join(base, "code", call["code"])
    if size(code) != call["size"]:
        if "package" not in call:
            return {"need": "code"}
        shutil.rmtree(code, ignore_errors=True)  # what an antivirus left of it
        install(call["package"], call["code"], code)
    sys.path.insert(0, os.path.join(code, "module_utils"))
    from modelops.execution import windows_jobs

    return windows_jobs.serve(call, base, say)


def unfit() -> str:
    """Return what is wrong with this Python, or nothing."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    here = f"ansible_python_interpreter is {sys.executable}, Python {version}"
    if struct.calcsize("P") != 8:
        return f"{here} of 32 bits: it cannot hold a large model. Install a 64-bit Python."
    if sys.version_info[:2] < OLDEST:
        return f"{here}, which is too old. Install {OLDEST[0]}.{OLDEST[1]} or newer."
    return ""


def local_folder() -> str:
    """Return the folder of this user's own data on this machine."""
    return os.environ.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")


def size(code: str) -> int:
    """Return how many bytes of code lie there."""
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(code)
        for name in names
        if name.endswith(".py")
    )


def install(package: str, sha256: str, folder: str) -> None:
    """Put the code there: verified and whole, or not at all."""
    content = zlib.decompress(base64.b64decode(package))
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"the code came with the SHA-256 {found} instead of {sha256}")
    part = f"{folder[:-32]}.{os.getpid()}"  # shorter than the name, for the longest path
    shutil.rmtree(part, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(part)
    for left in range(50, -1, -1):
        try:
            os.rename(part, folder)
            return
        except OSError:
            # Another call was faster, or an antivirus still looks at the new files.
            if os.path.isdir(folder) or not left:
                shutil.rmtree(part, ignore_errors=True)
                if not os.path.isdir(folder):
                    raise
                return
        time.sleep(0.1)
