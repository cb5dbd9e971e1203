"""Activation of a release on a target: activate, then commit it or revert it.

Standard library only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..base.errors import ModelOpsError
from ..config import replace
from . import trusted
from .change import Change, after_recovery, own_live, require_way_back, switch
from .store import FP32, TRANSFER_AGAIN, State, Store, record
from .texts import Texts, planned_texts


@after_recovery
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
        ModelOpsError: no way back, a release that is void, incomplete or not trusted, a link at
            a destination, or the configuration changed meanwhile.
    """
    store, state = change.store, change.state
    if not unvoid:
        _require_not_void(store, state, release)
    known = store.known if store.is_known(release) else None
    trusted.require(store, release, known, fresh=True, check_mode=check_mode)
    live_wrong = store.live_problems(state, True)
    stays = state["live"] == release and not live_wrong
    if not stays and not (check_mode and store.known):
        _require_complete(store, release)
    listed = store.known or store.manifest(release)
    require_way_back(store, listed)
    plan = replace.Plan(config)
    change.texts = Texts(plan.path, plan.before, plan.fp32, plan.int8)
    if stays:
        own_live(change, listed["artifacts"])
    if stays and state["active"] == release and plan.before == plan.int8:
        return
    void = {k: v for k, v in state["void"].items() if k != release}
    change.state = {**state, "void": void, "previous": dict(previous) or state["previous"]}
    if not check_mode:
        replace.require_replaceable(plan.path)
    _keep_backup(change, plan)
    new, damaged = None if stays else release, bool(live_wrong)
    switch(change, new, damaged=damaged, move_out=not stays, listed=listed)
    record(change.state, "activated", release, by)
    deadline, before = int(time.time()) + confirm_s, _behind(state, release)
    change.save(
        active=release, live=release, confirmed=False, deadline=deadline, before=before,
        pending=None,
    )  # fmt: skip


def _require_not_void(store: Store, state: State, release: str) -> None:
    if release in state["void"]:
        raise ModelOpsError(
            f"release {release} is void: {state['void'][release]}",
            where=store.root,
            remedy="Make another one, or lift it with activate_unvoid=" + release,
        )


def _require_complete(store: Store, release: str) -> None:
    if wrong := store.staged_problems(release, True):
        raise ModelOpsError(
            "the release is not complete: " + "; ".join(wrong),
            where=store.folder(release),
            remedy=TRANSFER_AGAIN,
        )


def _behind(state: State, release: str) -> dict[str, Any]:
    """Return what a release that is activated now is reverted to."""
    before = {"active": state["active"], "live": state["live"]}
    if state["active"] == release or not state["confirmed"]:
        # A repair, or one that nobody validated: behind it lies what lay behind that one before.
        before = state["before"] or {"active": FP32, "live": None}
    return {"active": FP32, "live": None} if before["active"] == release else before


def _keep_backup(change: Change, plan: replace.Plan) -> None:
    before, store = plan.before, change.store
    if before is not None and before != plan.int8:
        backup = plan.path.with_name(f"{plan.path.name}.before-{store.name}_int8")
        change.do(f"write {backup}", lambda: replace.keep_copy(plan.path, before, backup))


@after_recovery
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
            f"release {release} is not active, {state['active']} is",
            where=store.root,
            remedy="Somebody went back meanwhile: see playbooks/status.yml, and run again.",
        )
    if not check_mode and (wrong := _not_live(store, state, release)):
        raise ModelOpsError(
            "the live artifacts are not whole: " + "; ".join(wrong),
            where=store.root,
            remedy="Run quantize.yml again, which repairs them, or rollback.yml.",
        )
    if state["active"] != release or not state["confirmed"]:
        record(change.state, "committed", release, by, verdict)
        change.save(confirmed=True, deadline=None, before=None, last_good=release)


def _not_live(store: Store, state: State, release: str) -> list[str]:
    if state["live"] != release:
        return [f"the live release is {state['live']}"]
    return store.live_problems(state, True)


@after_recovery
def revert(
    change: Change,
    config: Mapping[str, Any] | None,
    *,
    by: str,
    reason: str,
    void: bool,
    check_mode: bool = False,
) -> None:
    """Undo an activation that is not committed.

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
    if to != FP32 and (
        to in state["void"] or store.staged_problems(to, True) or trusted.problem(store, to)
    ):
        to = FP32  # the release before is gone, ruined, void or not trusted; FP32 never is
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
