"""Whether Windows refused a file by a policy: Smart App Control, App Control (WDAC), AppLocker.

Standard library only. The numbers are those of winerror.h: ERROR_ACCESS_DISABLED_BY_POLICY, and
the ERROR_SYSTEM_INTEGRITY_* of a file that breaks a policy or has no good reputation.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Iterator

BLOCKED = "blocked"  # the reason of a failure
CODES = (1260, 4551, 4556, 4557, 4558, 4559, 4580, 4581, 4582)
NATIVE = tuple(importlib.machinery.EXTENSION_SUFFIXES)
STATE = r"SYSTEM\CurrentControlSet\Control\CI\Policy"
REMEDY = (
    "Smart App Control and other policies block programs and DLLs that nobody signed, as those of"
    " many Python packages are. On a PC of your own: Windows Security > App & browser control >"
    " Smart App Control settings > Off (an older Windows 11 turns it on again only when it is"
    " reset). On a managed PC: let its administrator allow this environment's folder. Or quantize"
    " on Linux (inventory/single)."
)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_native(error: BaseException | None) -> bool:
    """Tell whether an import failed in a package's machine code, or one of the DLLs that it needs.

    What is known is the file of which the import failed, also where the package raised an error of
    its own after it: Windows says the rest in its own language.
    """
    return any(_native_file(one) for one in chain(error))


def blocked(error: BaseException | None) -> str:
    """Return which file Windows refused by a policy, with the number; empty where it did not.

    An ImportError has no number, so Windows is asked for the file once more.
    """
    for one in chain(error):
        code = getattr(one, "winerror", None)
        if code in CODES:
            return f"{getattr(one, 'filename', None) or one} (WinError {code})"
        file = _native_file(one)
        code = refusal(file) if file else None
        if code in CODES:
            return f"{file} (WinError {code})"
    return ""


def refusal(file: str) -> int | None:
    """Return the number with which Windows refuses to load a file; None where it does not."""
    if sys.platform != "win32":
        return None
    try:
        import ctypes

        ctypes.CDLL(file)
    except OSError as error:
        return error.winerror
    except ImportError:  # ctypes itself is machine code
        return None
    return None


def told(file: str) -> str:
    """Return the words for a file that was refused."""
    return f"Windows' application control blocks {file}. {REMEDY}"


def _native_file(error: BaseException) -> str:
    """Return the file of machine code of which an import failed; empty where it is none."""
    path = str(error.path) if isinstance(error, ImportError) else ""
    return path if path.endswith(NATIVE) else ""
