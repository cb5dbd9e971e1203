"""The self-revert, which needs no controller: a file on the target that a timer or a watcher runs.

Standard library only. `write` puts this package's own sources, as they came to the target, into one
Python archive. `python3 FILE due ROOT NAME` tells by its exit code whether an activation stands
that nobody confirmed, `python3 FILE revert ROOT NAME` goes back to what was before it, or to FP32
where the state cannot be believed, and `python3 FILE watch ORDER ID` does both in time (see
watcher).
"""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base import closed, opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from . import activation, change, rollback, watcher
from .store import FP32, Store
from .texts import planned_texts

NAME = "revert.pyz"
_MAIN = "import sys\nfrom modelops.target.self_revert import main\nsys.exit(main(sys.argv[1:]))\n"
_USAGE = "usage: revert.pyz due|revert ROOT NAME, or revert.pyz watch ORDER ID"
_BY = "the target's timer"
_REASON = "no commit came in time: the controller or the link to it was lost"


def write(path: Path) -> None:
    """Write the archive, unless it is there already with the same content."""
    content = archive()
    if opener.holds(path, content) and opener.is_own(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content)


def place(path: Path, check_mode: bool = False) -> dict[str, Any]:
    """Write the archive where nobody but root, or this account, can change it: root will run it.

    Raises:
        ModelOpsError: somebody else may write in a folder on the way there.
    """
    content = archive()
    closed.require(path.parent, "others may put a program here that root would run")
    if opener.holds(path, content) and opener.is_own(path):
        return {"changed": False}
    if not check_mode:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_atomic(path, content)
    return {"changed": True, "moved": [f"write {path}"]}


def archive() -> bytes:
    """Return the archive: this module and what it imported, equal for equal sources."""
    package = __name__.rsplit(".", 2)[0]
    texts = {"__main__.py": _MAIN, "modelops/__init__.py": ""}
    for name, module in sorted(sys.modules.items()):
        if name.startswith(f"{package}.") and module.__spec__ is not None:
            # Ansible brings modules in a zip file, so there is no path to read them from.
            source = module.__spec__.loader.get_source(module.__spec__.name)  # type: ignore[union-attr]
            place = "modelops" + name.removeprefix(package).replace(".", "/")
            texts[f"{place}/__init__.py" if hasattr(module, "__path__") else f"{place}.py"] = source
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in sorted(texts.items()):
            bundle.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Run the archive's command line; 0 means due, or done."""
    try:
        match [*arguments]:
            case ["due", root, name]:
                return 0 if _as_owner(Store(Path(root), name)).is_due() else 1
            case ["revert", root, name]:
                _revert(_as_owner(Store(Path(root), name)))
            case ["watch", order, number]:
                watcher.watch(Path(order), number, _revert)
            case _:
                print(_USAGE, file=sys.stderr)
                return 2
    except ModelOpsError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def _as_owner(store: Store) -> Store:
    """Give up root's rights for those of whoever owns the store: what he wrote there is done."""
    if os.name == "nt" or os.geteuid() != 0:
        return store
    paths = [path for path in (store.state_file, store.releases, store.texts) if path.exists()]
    owner = next((path.lstat() for path in paths if path.lstat().st_uid != 0), None)
    if owner is not None:
        import pwd

        try:
            account = pwd.getpwuid(owner.st_uid)
            os.initgroups(account.pw_name, account.pw_gid)
            group = account.pw_gid
        except KeyError:
            os.setgroups([])
            group = owner.st_gid
        os.setgid(group)
        os.setuid(owner.st_uid)
    return store


def _revert(store: Store) -> None:
    """Revert to what was before; to FP32 where the state does not say what that was."""
    with change.alone(store, None):
        try:
            store.load()
        except ModelOpsError as error:
            print(error, file=sys.stderr)
            planned_texts(store, None, FP32)  # without a way back the state stays as it is
            why = f"{_REASON}; {error.what}"
            done = rollback.roll_back(store, FP32, None, by=_BY, reason=why, void=False)
        else:
            done = activation.revert(store, None, by=_BY, reason=_REASON, void=False)
    print("\n".join(done["moved"]) or "there was nothing to go back from")
