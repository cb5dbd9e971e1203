"""What every module's `main()` and every other caller of a module's `run()` shares."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ..base import app_control
from ..base.errors import ModelOpsError

OUT_OF_MEMORY = "out_of_memory"  # the reason of a failure

Run = Callable[[Mapping[str, Any], bool], dict[str, Any]]


class Module(Protocol):
    """What is used of AnsibleModule, which nothing here imports."""

    params: Mapping[str, Any]
    check_mode: bool

    def warn(self, warning: str) -> None: ...

    def fail_json(self, **result: Any) -> None: ...

    def exit_json(self, **result: Any) -> None: ...


def conclude(module: Module, run: Run) -> None:
    """Run a module and end its process with the result.

    The options are not sent back: the action plugin knows what it asked, and shows no secret of it.
    The account's umask decides nothing: what is not closed on purpose (0600, folders 0700) can be
    read by the service's account, and nobody but its owner may write it.
    """
    os.umask(0o022)
    # What was asked may hold a secret, and at -vvv Ansible shows what comes over SSH as it comes.
    result = run_guarded(run, module.params, module.check_mode) | {"invocation": {}}
    for warning in result.pop("warnings", []):
        module.warn(warning)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


def run_guarded(run: Run, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Call a module's `run` and turn an exception into a failed result.

    Returns:
        The result of `run`, or `{"failed": True, "msg": ..., **facts}`. A cause that nobody
        foresaw carries its traceback as `exception`.
    """
    try:
        return run(params, check_mode)
    except ModelOpsError as error:
        return {"failed": True, "msg": str(error), **error.facts} | named(error)
    except OSError as error:
        names = [str(n) for n in (error.filename, error.filename2) if n is not None]
        place = f"{' -> '.join(names)}: " if names else ""
        return {
            "failed": True,
            "msg": f"{place}{error.strerror or error}. Check that the path exists, that this user"
            " may use it and that the disk is healthy and not full.",
            "exception": traceback.format_exc(),
        } | named(error)
    except MemoryError:
        return {
            "failed": True,
            "reason": OUT_OF_MEMORY,
            "msg": "Out of memory. Free memory on this host and run again.",
        }


@contextmanager
def packages(remedy: str) -> Iterator[None]:
    """Let what imports a host's packages answer with what is missing.

    Raises:
        ModelOpsError: this Python lacks one.
    """
    try:
        yield
    except ImportError as error:
        raise ModelOpsError(f"this Python lacks a package ({error})", remedy=remedy) from None


def named(error: BaseException) -> dict[str, Any]:
    """Return what a failed result says instead where Windows refused a file by a policy."""
    file = app_control.blocked(error)
    return {"reason": app_control.BLOCKED, "msg": app_control.told(file)} if file else {}
