"""What a configuration says before, while and after a pair moves; the texts of the last activation.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import fsync_dir, write_atomic
from ..config import replace
from .store import FP32, Store

T = TypeVar("T")


class Texts(NamedTuple):
    """What the configuration says before, while the pair moves, and after."""

    path: Path
    before: bytes | None
    fp32: bytes
    after: bytes
    aside: str = ""  # why the text before is kept under another name; empty: it is not


def planned_texts(
    store: Store, config: Mapping[str, Any] | None, to: str, *, moved: bool = False
) -> Texts:
    """Return the texts that lead to naming `to`, with or without a controller's plan.

    Args:
        config: see config_file.Plan; with `unreadable`, why there is no plan on the file.
        moved: the configuration was written since the plan was made.
    """
    if config is not None and config.get("unreadable"):
        return _stored_texts(store, config, to)
    if config is not None and not moved and not _changed_since(store, config):
        plan = replace.Plan(config)
        gone = _stored_for(store, plan.path, to) if plan.before is None else None
        fp32 = gone or plan.fp32
        return Texts(plan.path, plan.before, fp32, fp32 if to == FP32 else gone or plan.int8)
    path = Path(_required(store.config_path(), store))
    current = _required(replace.read(path), store)
    if current == stored(store, "after"):
        fp32 = _required(stored(store, "fp32"), store)
    else:
        fp32 = by_hand(store, current, path)
    return Texts(path, current, fp32, fp32 if to == FP32 else current)


def _changed_since(store: Store, config: Mapping[str, Any]) -> bool:
    """Tell whether a file is not the one that its edits were planned for, but can do without them.

    Another model's run may have changed its own block; that must not stand in a way back.
    """
    now = replace.read(Path(config["path"]))
    known = stored(store, "path") == str(config["path"]).encode()
    return known and now is not None and replace.digest(now) != config["sha256"]


def _stored_texts(store: Store, config: Mapping[str, Any], to: str) -> Texts:
    """Return the texts of the last activation, for a file that nobody can plan an edit of."""
    path, why = Path(config["path"]), str(config["unreadable"])
    fp32, wanted = _stored_for(store, path, FP32), _stored_for(store, path, to)
    if fp32 is None or wanted is None:
        raise ModelOpsError(why, where=store.texts, remedy="No earlier text is stored here.")
    fp32, wanted = (_true_of_others(store, text, path) for text in (fp32, wanted))
    return Texts(path, replace.read(path), fp32, wanted, why)


def _true_of_others(store: Store, text: bytes, path: Path) -> bytes:
    """Let a text of earlier name the INT8 of another model only where that is in service now."""
    for folder in sorted(store.releases.parent.iterdir()):
        if folder == store.releases or not (folder / "state.json").is_file():
            continue
        with suppress(ModelOpsError):  # nothing of another model may block this one's way back
            other = Store(store.root, folder.name)
            state = other.load()
            if state["active"] == FP32 or other.live_problems(state, False):
                text = replace.without_int8(text, other.name, path)
    return text


def _stored_for(store: Store, path: Path, to: str) -> bytes | None:
    """Return the text of the last activation that names `to`, when it was of this file."""
    if stored(store, "path") != str(path).encode():
        return None
    return stored(store, "fp32" if to == FP32 else "after")


def by_hand(store: Store, current: bytes, path: Path) -> bytes:
    """Let a text that somebody edited after us name FP32: in our lines, else in the name alone."""
    after, fp32 = stored(store, "after"), stored(store, "fp32")
    carried = replace.carry_over(current, after, fp32) if after and fp32 else None
    return carried or replace.without_int8(current, store.name, path)


def _required(text: T | None, store: Store) -> T:
    if text is None:
        raise ModelOpsError(
            "it is not known how the configuration named FP32",
            where=store.texts,
            remedy="Run rollback.yml, which plans it anew.",
        )
    return text


def stored(store: Store, kind: str) -> bytes | None:
    path = store.texts / kind
    try:
        return opener.read(path, replace.LARGEST)
    except FileNotFoundError:
        return None


def keep_text(store: Store, kind: str, text: bytes | None) -> None:
    if not store.texts.is_dir():
        store.texts.mkdir(parents=True, mode=0o700)
        fsync_dir(store.releases)  # the state will tell of what is in it
    if text is None:
        (store.texts / kind).unlink(missing_ok=True)
    else:
        write_atomic(store.texts / kind, text, 0o600)
