"""What a target can tell whoever helps from afar, as texts without secrets. Standard library only.

Every text is bounded: a journal, a configuration and a manifest have no end by themselves.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..base import host_text, opener
from ..base.errors import ModelOpsError
from ..base.hidden import masked
from ..base.units import size
from ..target import units
from ..target.store import INCOMING, Store

JOURNAL_LINES = 500
LONGEST = 256 << 10  # characters of one text; of a journal the last ones
KEPT_MANIFESTS = 5
_LARGEST = 4 << 20  # bytes of a file that is read at all


def collect(root: Path, name: str, service: str, manager: str, config: Path) -> dict[str, str]:
    """Return the texts by the names that they have in an archive.

    Args:
        root: the folder of the models.
        name: the model.
        service: the unit.
        manager: `systemd`, `systemd_user`, or what keeps no journal.
        config: the configuration that names the model.
    """
    store = Store(root, name).releases
    staged = sorted(store.glob("*/manifest.json"))[:KEPT_MANIFESTS]
    found = {
        "configuration.txt": _file(config),
        "state.json": _file(store / "state.json"),
        "verdict.json": _file(store / "verdict.json"),
        **{f"manifest-{path.parent.name}.json": _file(path) for path in staged},
    }
    found["files.txt"] = "".join(_listed(root, store))
    found["host.txt"] = "".join(_host(root))
    if manager in ("systemd", "systemd_user"):
        found |= _of_unit(units.check(service), manager == "systemd_user")
    return {as_: _shown(text) for as_, text in found.items()}


def _shown(text: str) -> str:
    return host_text.plain(masked(text)[-LONGEST:])


def _file(path: Path) -> str:
    try:
        with opener.opened(path, _LARGEST, follow=True) as handle:
            return handle.read(_LARGEST).decode("utf-8", "replace")
    except (OSError, ModelOpsError) as error:
        return f"not read: {error}\n"


def _of_unit(service: str, user: bool) -> dict[str, str]:
    scope = ["--user"] if user else []
    field = "--user-unit" if user else "--unit"
    lines = ["--quiet", "--no-pager", "--output=short-iso", f"--lines={JOURNAL_LINES}"]
    calls = {
        "unit.txt": ["systemctl", *scope, "cat", "--no-pager", service],
        "unit-state.txt": ["systemctl", *scope, "status", "--no-pager", "--lines=0", service],
        "journal.txt": ["journalctl", *lines, field, service],
    }
    done = {as_: units.run(*call) for as_, call in calls.items()}
    return {as_: one.stdout or f"nothing: {one.stderr}" for as_, one in done.items()}


def _listed(root: Path, store: Path) -> Iterable[str]:
    """Yield a line for each file of the models' folder: its mode, size, time and name."""
    for folder in (root, root / INCOMING, store):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)[:200]
        except OSError as error:
            yield f"{folder}: {error.strerror}\n"
            continue
        yield f"{folder}\n"
        for entry in entries:
            with suppress(OSError):  # it has just gone
                about = entry.stat(follow_symlinks=False)
                owner, when = about.st_uid, int(about.st_mtime)
                yield f"  {about.st_mode:o} {owner} {about.st_size} {when} {entry.name}\n"


def _host(root: Path) -> Iterable[str]:
    yield f"{platform.platform()}, Python {platform.python_version()}\n"
    for path in ("/etc/os-release", "/proc/loadavg", "/proc/meminfo"):
        yield f"\n{path}\n{_file(Path(path))[:4096]}"
    disk = shutil.disk_usage(root if root.exists() else "/")
    yield f"\ndisk of {root}: {size(disk.free)} free of {size(disk.total)}\n"
