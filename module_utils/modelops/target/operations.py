"""Releases on a target: stage, activate, commit, revert, roll back, prune.

Standard library only. Every operation is a list of small steps (see moves), so that check mode
prints what a real run does. What was under way stands in the state, and every operation undoes it
first (`_performed`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import fsync_dir, rename_durable, require_space, write_atomic
from ..config import replace
from ..pair import manifest
from .change import (
    Change,
    Texts,
    joined,
    own_live,
    planned_texts,
    recover,
    require_way_back,
    switch,
    take,
    write_config,
)
from .store import FP32, TRANSFER_AGAIN, State, Store, fresh_state, record, stamp

P = ParamSpec("P")


def query(store: Store, verify: bool) -> dict[str, Any]:
    """Return the state and what is wrong, without changing anything.

    Returns:
        `state`; `whole`: the releases whose artifacts and golden data are right; `lacking`: which
        files of the release that the controller knows are not here; `problems`; `hashed`: which
        files need not be hashed again in this run; `free_bytes` of the disk.
    """
    problems: list[str] = []
    whole: list[str] = []
    try:
        state = store.load()
    except ModelOpsError as error:
        state = fresh_state()
        problems.append(str(error))
    problems += store.fp32_problems(None, False)
    if state["pending"]:
        problems.append("a move was interrupted; the next change undoes it first")
    wrong = store.live_problems(state, verify)
    problems += wrong
    if state["live"] and not wrong:
        whole.append(state["live"])
    for release in store.staged():
        if release not in whole and not _staged_problems(store, release, verify):
            whole.append(release)
    whole = [release for release in whole if not store.golden_problems(release, verify)]
    free = shutil.disk_usage(store.root).free if store.root.is_dir() else 0
    lacking = [entry["name"] for entry in _lacking(store, state, store.known)]
    return {
        "state": state, "whole": whole, "lacking": lacking, "problems": problems,
        "hashed": store.hashed.told, "free_bytes": free,
    }  # fmt: skip


def _lacking(store: Store, state: State, listed: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the entries of a release's files that are not here; its manifest here has no say."""
    if not listed:
        return []
    folder, entries = store.folder(listed["release_id"]), listed["artifacts"]
    files = manifest.files(listed)
    if state["live"] == listed["release_id"] and not store.whole(store.root, entries, True):
        files = [entry for entry in files if entry not in entries]
    return [entry for entry in files if store.whole(folder, [entry], True)]


def _performed(
    store: Store,
    steps: Callable[[Change], None],
    check_mode: bool,
    *,
    restore: bool = True,
    state: State | None = None,
) -> dict[str, Any]:
    """Undo what was interrupted, plan the steps on what that leaves, and do them.

    Check mode tells of an undoing alone: what follows depends on what that leaves.

    Args:
        restore: see change.recover.
        state: the state, where that of the store is not to be read.
    """
    recovered = recover(store, check_mode, restore=restore)
    if recovered and check_mode:
        return recovered
    change = Change(store, state or store.load(), recovered=bool(recovered))
    steps(change)
    return joined(recovered, change.perform(check_mode))


def _after_recovery(
    steps: Callable[Concatenate[Change, P], None],
) -> Callable[Concatenate[Store, P], dict[str, Any]]:
    """Make an operation of what plans its steps. `check_mode` is an option by its name."""

    @wraps(steps)
    def operation(store: Store, /, *values: P.args, **options: P.kwargs) -> dict[str, Any]:
        check_mode = bool(options.get("check_mode"))
        return _performed(store, lambda change: steps(change, *values, **options), check_mode)

    return operation


@_after_recovery
def stage(
    change: Change, release: str, listed: Mapping[str, Any], incoming: Path, *, check_mode: bool
) -> None:
    """Verify a transferred pair by SHA-256 and make it a release.

    Args:
        listed: the manifest that it must fit.
        incoming: the folder that it lies in.

    Raises:
        ModelOpsError: every mismatch at once, with `mismatched`, the names to send again.
    """
    store, state = change.store, change.state
    manifest.check(listed)
    folder = store.folder(release)
    store.require_own(listed, f"release {release}")
    if listed["release_id"] != release:
        raise ModelOpsError(
            f"the manifest is that of release {listed['release_id']}",
            where=f"release {release}",
            remedy=f"Give the manifest of {release}.",
        )
    todo = _lacking(store, state, listed)
    rows = manifest.verify(incoming, todo)
    wrong = [row for row in rows if not row["ok"]]
    if wrong and not (check_mode and not incoming.is_dir()):
        raise ModelOpsError(
            "; ".join(f"{incoming / row['name']}: {row['problem']}" for row in wrong),
            where=f"release {release}",
            remedy=TRANSFER_AGAIN,
            mismatched=[row["name"] for row in wrong],
        )
    content = manifest.dump(listed)
    kept = folder / manifest.MANIFEST
    if not rows and opener.holds(kept, content):
        return
    # What a run brought here itself moves; what others brought is copied, and stays theirs.
    own = incoming == store.incoming / release
    if not own and not check_mode:
        require_space(store.root, sum(entry["size"] for entry in todo), "a copy of the pair")
    change.do(f"make {folder}", lambda: folder.mkdir(parents=True, exist_ok=True))
    change.do(f"write {kept}", lambda: write_atomic(kept, content))
    for entry in sorted(todo, key=lambda e: str(e["name"]), reverse=True):  # data, then the graph
        take(change, incoming / entry["name"], folder / entry["name"], entry, own)
    if own:
        change.do(f"clear {incoming}", lambda: _clear_incoming(incoming))


@_after_recovery
def activate(
    change: Change,
    release: str,
    config: Mapping[str, Any],
    *,
    previous: Mapping[str, Any],
    confirm_s: int,
    by: str,
    unvoid: bool = False,
    check_mode: bool = False,
) -> None:
    """Make a release the live one and let the configuration name it; a commit must follow.

    Its files are compared by SHA-256 with the manifest that the controller knows (Store.known).

    Args:
        config: see config_file.Plan.
        previous: the owner's values from before INT8, kept for the way back.
        confirm_s: seconds until the activation counts as lost when no commit comes.
        by: who does it, for the history.
        unvoid: lift the release's being void.

    Raises:
        ModelOpsError: no way back, a void or incomplete release, a link at a destination, or the
            configuration changed meanwhile.
    """
    store, state = change.store, change.state
    if release in state["void"] and not unvoid:
        raise ModelOpsError(
            f"release {release} is void: {state['void'][release]}",
            where=store.root,
            remedy="Make another one, or lift it with activate_unvoid=" + release,
        )
    live_wrong = store.live_problems(state, True)
    stays = state["live"] == release and not live_wrong
    staged_wrong = _staged_problems(store, release, True)
    if not stays and staged_wrong and not (check_mode and store.known):
        raise ModelOpsError(
            "the release is not complete: " + "; ".join(staged_wrong),
            where=store.folder(release),
            remedy=TRANSFER_AGAIN,
        )
    listed = store.known or store.manifest(release)
    require_way_back(store, listed)
    plan = replace.Plan(config)
    change.texts = Texts(plan.path, plan.before, plan.fp32, plan.int8)
    if stays:
        own_live(change, listed["artifacts"])
    if stays and state["active"] == release and plan.before == plan.int8:
        return
    before = {"active": state["active"], "live": state["live"]}
    if state["active"] == release or not state["confirmed"]:
        # A repair, or one that nobody validated: behind it lies what lay behind that one before.
        before = state["before"] or {"active": FP32, "live": None}
    if before["active"] == release:
        before = {"active": FP32, "live": None}
    void = {k: v for k, v in state["void"].items() if k != release}
    change.state = {**state, "void": void, "previous": dict(previous) or state["previous"]}
    if not check_mode:
        replace.require_replaceable(plan.path)
    _keep_backup(change, plan)
    switch(
        change, None if stays else release,
        damaged=bool(live_wrong), move_out=not stays, listed=listed,
    )  # fmt: skip
    record(change.state, "activated", release, by)
    change.save(
        active=release,
        live=release,
        confirmed=False,
        deadline=int(time.time()) + confirm_s,
        before=before,
        pending=None,
    )


@_after_recovery
def commit(change: Change, release: str, *, by: str, verdict: str, check_mode: bool) -> None:
    """Confirm an activation: the release is the last good one now.

    Raises:
        ModelOpsError: it is not active, or what is live is not that release, by SHA-256 and by the
            manifest that the controller knows (Store.known).
    """
    store, state = change.store, change.state
    # Check mode did not activate what it is asked to commit, so it cannot look at it.
    if state["active"] != release and not check_mode:
        raise ModelOpsError(
            f"release {release} is not active, {state['active']} is", where=store.root
        )
    if not check_mode and (wrong := _not_live(store, state, release)):
        raise ModelOpsError(
            "the live pair is not whole: " + "; ".join(wrong),
            where=store.root,
            remedy="Run quantize.yml again, which repairs it, or rollback.yml.",
        )
    if state["active"] != release or not state["confirmed"]:
        record(change.state, "committed", release, by, verdict)
        change.save(confirmed=True, deadline=None, before=None, last_good=release)


def _not_live(store: Store, state: State, release: str) -> list[str]:
    if state["live"] != release:
        return [f"the live release is {state['live']}"]
    return store.live_problems(state, True)


@_after_recovery
def revert(
    change: Change,
    config: Mapping[str, Any] | None,
    *,
    by: str,
    reason: str,
    void: bool,
    check_mode: bool = False,
) -> None:
    """Go back to what was before an activation that is not confirmed.

    Args:
        config: see config_file.Plan; None where no controller is there to plan it.
        void: never activate the release again.

    Raises:
        ModelOpsError: the configuration cannot be made to name what was before.
    """
    store, state = change.store, change.state
    if state["confirmed"]:
        return
    release, to = state["active"], state["before"]["active"]
    if to != FP32 and (to in state["void"] or _staged_problems(store, to, True)):
        to = FP32  # the release before is gone, ruined or void; FP32 never is
    if void:
        change.state = {**state, "void": {**state["void"], release: reason}}
    try:
        change.texts = planned_texts(store, config, to, moved=change.recovered)
        require_way_back(store, None)
    except ModelOpsError as error:
        record(change.state, "revert failed", release, by, f"{reason}: {error}")
        change.save()
        change.perform(check_mode)
        raise
    switch(change, None if to == FP32 else to, damaged=bool(store.live_problems(state, False)))
    record(change.state, "reverted", release, by, reason)
    live = None if to == FP32 else to
    change.save(
        active=to, live=live, confirmed=True, deadline=None, before=None, pending=None,
    )  # fmt: skip


def roll_back(
    store: Store,
    to: str,
    config: Mapping[str, Any],
    *,
    by: str,
    reason: str,
    void: bool,
    only_from: str | None = None,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Go back to FP32 (`fp32`), to the last good release (`last_good`) or to a named one.

    With `only_from` nothing changes unless that release is active.

    Raises:
        ModelOpsError: the release is absent, void or incomplete.
    """
    broken = _put_broken_state_aside(store, to, check_mode)

    def steps(change: Change) -> None:
        state, left = change.state, change.state["active"]
        if only_from and left != only_from:
            return
        if left == FP32 and config.get("unreadable") and not change.recovered:
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
    return _performed(store, steps, check_mode, restore=to != FP32, state=state)


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
    stays = state["live"] == to and not live_wrong
    if not stays and (wrong := _staged_problems(store, to, True)):
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


@_after_recovery
def prune(change: Change, keep: int, *, check_mode: bool) -> None:  # noqa: ARG001 - the wrapper's
    """Remove releases that nobody needs, newest kept first, and what damaged ones left behind.

    Never removed: the active, live and last good release, the one behind an activation that is
    not confirmed, and a pair that the owner himself put there (`unmanaged-*`).
    """
    store, state = change.store, change.state
    needed = {state["active"], state["live"], state["last_good"], FP32}
    needed |= set((state["before"] or {}).values())
    order = [entry["release"] for entry in reversed(state["history"])]
    spare = [release for release in store.staged() if release not in needed]
    spare.sort(key=lambda r: order.index(r) if r in order else len(order))
    doomed = [store.releases / release for release in spare[keep:]]
    if store.releases.is_dir():
        doomed += sorted(store.releases.glob("damaged-*"))
    for folder in doomed:
        change.do(f"remove {folder}", partial(shutil.rmtree, folder))
    older = store.releases.parent / "revert.pyz"  # for the timer of a version before, see takeover
    if older.is_file() and state["confirmed"]:
        change.do(f"remove {older}", older.unlink)


def _keep_backup(change: Change, plan: replace.Plan) -> None:
    before, store = plan.before, change.store
    if before is not None and before != plan.int8:
        backup = plan.path.with_name(f"{plan.path.name}.before-{store.name}_int8")
        change.do(f"write {backup}", lambda: replace.keep_copy(plan.path, before, backup))


def _clear_incoming(incoming: Path) -> None:
    """Remove the folder of a transfer that was staged."""
    shutil.rmtree(incoming, ignore_errors=True)
    fsync_dir(incoming.parent)


def _staged_problems(store: Store, release: str, verify: bool) -> list[str]:
    folder = store.folder(release)
    try:
        entries = store.manifest(release)["artifacts"]
    except ModelOpsError as error:
        return [str(error)]
    return store.whole(folder, entries, verify)


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
