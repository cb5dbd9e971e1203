"""The timer of a service that commands run: a process that reverts when no commit comes.

Standard library only. Where systemd runs the service its timer does this, and survives a boot. This
process does not, as nothing that was started by hand does. It outlives the controller, the login
and the run. What it has to do stands in a file: a command line is seen by the owner's `pgrep -f`.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from .commands import Commands
from .store import Store

ORDER = "watch.json"
LOG = "watch.log"
POLL_S = 1.0
STOP_LIMIT_S = 90.0


def start(store: Store, archive: str, service: Mapping[str, Any], confirm_s: float) -> None:
    """Start the process, which takes the place of an earlier one.

    Args:
        archive: the name of the archive that has the process's program, in the model's folder.
        service: `name` and `commands`, see commands.Commands.
        confirm_s: seconds until it goes back.

    Raises:
        ModelOpsError: the service's commands cannot be used.
    """
    Commands(service["name"], service["commands"])  # refuse now what could not be started then
    order: dict[str, Any] = {
        "id": secrets.token_hex(8), "root": str(store.root), "model": store.name,
        "confirm_s": confirm_s, "service": dict(service),
    }  # fmt: skip
    path = store.releases / ORDER
    write_atomic(path, (json.dumps(order) + "\n").encode(), 0o600)
    with opener.fresh(store.releases / LOG) as log:
        subprocess.Popen(  # noqa: S603 - this Python and our own archive
            [sys.executable, "-I", archive, "watch", ORDER, order["id"]], cwd=store.releases,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def watch(path: Path, number: str, revert: Callable[[Store], object]) -> bool:
    """Wait for a commit; revert and restart the service when none comes in time.

    Args:
        path: the file with what is to be done.
        number: the id of that; another one in its place ends this.
        revert: goes back.

    Returns:
        Whether it went back.

    Raises:
        ModelOpsError: it cannot go back, or the service cannot be restarted.
    """
    order = _order(path, number)
    if order is None:
        return False
    store, service = Store(Path(order["root"]), order["model"]), order["service"]
    if not path.parent.samefile(store.releases):
        what = f"it is of {store.releases}, and lies in another folder"
        raise ModelOpsError(what, where=path, remedy="Run quantize.yml or rollback.yml again.")
    deadline = time.monotonic() + order["confirm_s"]
    begun = False
    while time.monotonic() < deadline:
        due = store.is_due()
        if _order(path, number) is None or (begun and not due):
            return False
        begun = begun or due
        time.sleep(POLL_S)
    if _order(path, number) is None or not store.is_due():
        return False
    revert(store)
    Commands(service["name"], service["commands"]).restart(STOP_LIMIT_S)
    return True


def _order(path: Path, number: str) -> dict[str, Any] | None:
    """Return what is to be done, or None when it is gone, another one's, or others may write it."""
    try:
        found = opener.read_json(path)
    except (OSError, ModelOpsError):
        return None
    usable = isinstance(found, dict) and found.get("id") == number and opener.is_own(path)
    return dict(found) if usable else None
