"""Rollback on a target, to FP32 or to a release that was committed before.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.errors import ModelOpsError
from ..base.files import rename_durable
from . import trusted
from .change import Change, performed, require_way_back, switch, write_config
from .store import FP32, State, Store, fresh_state, record, stamp
from .texts import Texts, planned_texts


def roll_back(
    store: Store,
    to: str,
    config: Mapping[str, Any] | None,
    *,
    by: str,
    reason: str,
    void: bool,
    only_from: str | None = None,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Go back to FP32 (`fp32`), to the last good release (`last_good`) or to a named one.

    With `only_from` nothing changes unless that release is active.

    Args:
        config: see config_file.Plan; None where no controller is there to plan it.

    Raises:
        ModelOpsError: the release is absent, void, incomplete or not trusted.
    """
    broken = _put_broken_state_aside(store, to, check_mode)

    def steps(change: Change) -> None:
        state, left = change.state, change.state["active"]
        if only_from and left != only_from:
            return
        if left == FP32 and config and config.get("unreadable") and not change.recovered:
            # It may be that the owner is at work in it: what INT8 left no trace in stays his.
            raise ModelOpsError(str(config["unreadable"]), where=store.root)
        if void and left != FP32:
            change.state = {**state, "void": {**state["void"], left: reason}}
        there = state["last_good"] if to == "last_good" else to
        change.texts = planned_texts(store, config, there, moved=change.recovered)
        if there == FP32:
            _to_fp32(change, change.texts, state, void=void, by=by, reason=reason)
        else:
            _to_release(change, change.texts, state, there, by=by, reason=reason)

    # On the way to FP32 nothing restores a text that names INT8, whatever happens after.
    state = fresh_state() if broken and check_mode else None
    return performed(store, steps, check_mode, restore=to != FP32, state=state)


def _to_fp32(
    change: Change, texts: Texts, state: State, *, void: bool, by: str, reason: str
) -> None:
    """Let the configuration name FP32; the INT8 pair stays where it is, unless it is void."""
    require_way_back(change.store, None)
    if state["active"] == FP32 and texts.before == texts.after:
        return
    write_config(change, texts.before, texts.after)
    record(change.state, "rolled back", FP32, by, reason)
    change.save(active=FP32, confirmed=True, deadline=None, before=None)
    if void and state["live"]:
        change.texts = Texts(texts.path, texts.after, texts.after, texts.after)
        switch(change, None, damaged=bool(change.store.live_problems(state, False)))
        change.save(live=None, pending=None)


def _to_release(
    change: Change, texts: Texts, state: State, to: str, *, by: str, reason: str
) -> None:
    """Make a release the live one that is here already."""
    store = change.store
    if to in change.state["void"]:
        raise ModelOpsError(
            f"release {to} is void: {change.state['void'][to]}",
            where=store.root,
            remedy="Roll back to FP32 or to another release.",
        )
    live_wrong = store.live_problems(state, True)
    trusted.require(store, to)
    stays = state["live"] == to and not live_wrong
    if not stays and (wrong := store.staged_problems(to, True)):
        raise ModelOpsError(
            "there is no such complete release: " + "; ".join(wrong),
            where=store.root,
            remedy=f"Roll back to FP32, or to one of: {', '.join(store.staged()) or 'none'}.",
        )
    if stays and state["active"] == to and texts.before == texts.after:
        return
    require_way_back(store, None)
    switch(change, None if stays else to, damaged=bool(live_wrong), move_out=not stays)
    record(change.state, "rolled back", to, by, reason)
    change.save(
        active=to, live=to, last_good=to, confirmed=True, deadline=None, before=None, pending=None,
    )  # fmt: skip


def _put_broken_state_aside(store: Store, to: str, check_mode: bool) -> bool:
    """The way back to FP32 must not depend on a state that somebody damaged."""
    try:
        store.load()
    except ModelOpsError:
        if to != FP32:
            raise
        if not check_mode:
            aside = store.state_file.with_name(f"state.json.broken-{stamp()}")
            rename_durable(store.state_file, aside)
        return True
    return False
