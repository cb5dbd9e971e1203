"""Releases on a target: stage, activate, commit, revert, roll back, prune.

Standard library only. Every operation is a list of small steps, so that check mode prints what a
real run does. Between any two steps, and within each, this holds: the configuration names a model
whose graph and data are both there and belong together, and the FP32 pair is untouched. What was
under way stands in the state; `recover` undoes it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import config_file, manifest
from .errors import ModelOpsError
from .files import fsync_dir, rename_durable, write_atomic
from .store import FP32, State, Store, fresh_state, now, record

TRANSFER_AGAIN = "Run quantize.yml again: the pair is then transferred again."


class Step(NamedTuple):
    """One thing to do, and how it is called."""

    text: str
    act: Callable[[], object]


class Texts(NamedTuple):
    """What the configuration says before, while the pair moves, and after."""

    path: Path
    before: bytes | None
    fp32: bytes
    after: bytes


class Change:
    """The steps of one operation, and what it gives back."""

    def __init__(self, store: Store, state: State) -> None:
        self.store, self.state = store, state
        self.steps: list[Step] = []
        self.texts: Texts | None = None

    def do(self, text: str, act: Callable[[], object]) -> None:
        self.steps.append(Step(text, act))

    def save(self, **fields: Any) -> None:
        """Change the state and write it, as a step."""
        self.state = {**self.state, **fields}
        state = self.state
        self.do("write state.json", lambda: self.store.save(state))

    def perform(self, check_mode: bool) -> dict[str, Any]:
        """Do the steps, or in check mode only tell them."""
        if not check_mode:
            for step in self.steps:
                step.act()
        result: dict[str, Any] = {
            "changed": bool(self.steps),
            "state": self.state,
            "moved": [step.text for step in self.steps],
        }
        if self.texts and self.texts.before != self.texts.after:
            result["diff"] = {
                "before_header": str(self.texts.path),
                "after_header": str(self.texts.path),
                "before": (self.texts.before or b"").decode(errors="replace"),
                "after": self.texts.after.decode(errors="replace"),
            }
        return result


def query(store: Store, verify: bool) -> dict[str, Any]:
    """Return the state and what is wrong, without changing anything.

    Returns:
        `state`; `whole`: the releases whose pair is right, live or staged; `problems`;
        `free_bytes` of the disk.
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
    free = shutil.disk_usage(store.root).free if store.root.is_dir() else 0
    return {"state": state, "whole": whole, "problems": problems, "free_bytes": free}


def stage(
    store: Store, release: str, listed: Mapping[str, Any], incoming: Path, check_mode: bool
) -> dict[str, Any]:
    """Verify a transferred pair by SHA-256 and make it a release.

    Args:
        listed: the manifest that it must fit.
        incoming: the folder that it lies in.

    Raises:
        ModelOpsError: every mismatch at once, with `mismatched`, the names to send again.
    """
    state = store.load()
    entries = manifest.check(listed)["artifacts"]
    folder = store.folder(release)
    change = Change(store, state)
    if state["live"] == release and not store.whole(store.root, entries, True):
        return change.perform(check_mode)
    here = {row["name"] for row in manifest.verify(folder, entries) if row["ok"]}
    rows = manifest.verify(incoming, [e for e in entries if e["name"] not in here])
    wrong = [row for row in rows if not row["ok"]]
    if wrong and not (check_mode and not incoming.is_dir()):
        raise ModelOpsError(
            "; ".join(f"{incoming / row['name']}: {row['problem']}" for row in wrong),
            where=f"release {release}",
            remedy=TRANSFER_AGAIN,
            mismatched=[row["name"] for row in wrong],
        )
    if not rows and (folder / manifest.MANIFEST).is_file():
        return change.perform(check_mode)
    content = manifest.dump(listed)
    change.do(f"make {folder}", lambda: folder.mkdir(parents=True, exist_ok=True))
    change.do(
        f"write {folder / manifest.MANIFEST}",
        lambda: write_atomic(folder / manifest.MANIFEST, content),
    )
    for row in sorted(rows, key=lambda row: row["name"], reverse=True):  # the data, then the graph
        _move(change, incoming / row["name"], folder / row["name"])
    change.do(f"clear {incoming}", lambda: _clear_incoming(store, incoming))
    return change.perform(check_mode)


def activate(
    store: Store,
    release: str,
    config: Mapping[str, Any],
    *,
    previous: Mapping[str, Any],
    confirm_s: int,
    by: str,
    listed: Mapping[str, Any] | None = None,
    unvoid: bool = False,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Make a release the live one and let the configuration name it; a commit must follow.

    Args:
        config: see config_file.Plan.
        previous: the owner's values from before INT8, kept for the way back.
        confirm_s: seconds until the activation counts as lost when no commit comes.
        by: who does it, for the history.
        listed: the manifest, for check mode before the pair was staged.
        unvoid: lift the release's being void.

    Raises:
        ModelOpsError: no way back, a void or incomplete release, a link at a destination, or the
            configuration changed meanwhile.
    """
    recovered = recover(store, check_mode)
    if recovered and check_mode:
        return recovered  # what follows depends on what the undoing leaves
    state = store.load()
    if release in state["void"] and not unvoid:
        raise ModelOpsError(
            f"release {release} is void: {state['void'][release]}",
            where=store.root,
            remedy="Make another one, or lift it with activate_unvoid=" + release,
        )
    live_wrong = store.live_problems(state, True)
    stays = state["live"] == release and not live_wrong
    staged_wrong = _staged_problems(store, release, True)
    if not stays and staged_wrong and not (check_mode and listed):
        raise ModelOpsError(
            "the release is not complete: " + "; ".join(staged_wrong),
            where=store.folder(release),
            remedy=TRANSFER_AGAIN,
        )
    _require_way_back(store, listed or store.manifest(release))
    plan = config_file.Plan(config)
    change = Change(store, state)
    change.texts = Texts(plan.path, plan.before, plan.fp32, plan.int8)
    if stays and state["active"] == release and plan.before == plan.int8:
        return _merge(recovered, change.perform(check_mode))
    before = {"active": state["active"], "live": state["live"]}
    if state["active"] == release:  # a repair: behind it lies what lay behind it before
        before = state["before"] or {"active": FP32, "live": None}
    void = {k: v for k, v in state["void"].items() if k != release}
    change.state = {**state, "void": void, "previous": dict(previous) or state["previous"]}
    _keep_backup(change, plan)
    _switch(change, None if stays else release, damaged=bool(live_wrong), move_out=not stays)
    record(change.state, "activated", release, by)
    change.save(
        active=release,
        live=release,
        confirmed=False,
        deadline=int(time.time()) + confirm_s,
        before=before,
        pending=None,
    )
    return _merge(recovered, change.perform(check_mode))


def commit(store: Store, release: str, by: str, verdict: str, check_mode: bool) -> dict[str, Any]:
    """Confirm an activation: the release is the last good one now."""
    state = store.load()
    change = Change(store, state)
    if state["active"] != release and not check_mode:
        raise ModelOpsError(
            f"release {release} is not active, {state['active']} is", where=store.root
        )
    if state["active"] != release or not state["confirmed"]:
        record(change.state, "committed", release, by, verdict)
        change.save(confirmed=True, deadline=None, before=None, last_good=release)
    return change.perform(check_mode)


def revert(
    store: Store,
    config: Mapping[str, Any] | None,
    *,
    by: str,
    reason: str,
    void: bool,
    check_mode: bool = False,
) -> dict[str, Any]:
    """Go back to what was before an activation that is not confirmed.

    Args:
        config: see config_file.Plan; None where no controller is there to plan it.
        void: never activate the release again.

    Raises:
        ModelOpsError: the configuration cannot be made to name what was before.
    """
    recovered = recover(store, check_mode)
    if recovered and check_mode:
        return recovered
    state = store.load()
    change = Change(store, state)
    if state["confirmed"]:
        return _merge(recovered, change.perform(check_mode))
    release, to = state["active"], state["before"]["active"]
    if to != FP32 and _staged_problems(store, to, False):
        to = FP32  # the release before is gone; FP32 never is
    change.texts = _texts(store, config, to)
    if void:
        change.state = {**state, "void": {**state["void"], release: reason}}
    _switch(change, None if to == FP32 else to, damaged=bool(store.live_problems(state, False)))
    record(change.state, "reverted", release, by, reason)
    live = None if to == FP32 else to
    change.save(
        active=to, live=live, confirmed=True, deadline=None, before=None, pending=None,
    )  # fmt: skip
    return _merge(recovered, change.perform(check_mode))


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

    FP32 needs nothing but the configuration: the INT8 pair stays where it is, unless it is void.
    With `only_from` nothing changes unless that release is active.

    Raises:
        ModelOpsError: the release is absent, void or incomplete.
    """
    broken = _put_broken_state_aside(store, to, check_mode)
    recovered = recover(store, check_mode) if not broken else None
    if recovered and check_mode:
        return recovered
    state = fresh_state() if broken and check_mode else store.load()
    change = Change(store, state)
    to = state["last_good"] if to == "last_good" else to
    left = state["active"]
    if only_from and left != only_from:
        return _merge(recovered, change.perform(check_mode))
    if void and left != FP32:
        change.state = {**state, "void": {**state["void"], left: reason}}
    change.texts = _texts(store, config, to)
    if to == FP32:
        _require_way_back(store, None)
        if state["active"] == FP32 and change.texts.before == change.texts.after:
            return _merge(recovered, change.perform(check_mode))
        _write_config(change, change.texts.before, change.texts.after)
        record(change.state, "rolled back", FP32, by, reason)
        change.save(active=FP32, confirmed=True, deadline=None, before=None)
        if void and state["live"]:
            after = change.texts.after
            change.texts = Texts(change.texts.path, after, after, after)
            _switch(change, None, damaged=bool(store.live_problems(state, False)))
            change.save(live=None, pending=None)
        return _merge(recovered, change.perform(check_mode))
    if to in change.state["void"]:
        raise ModelOpsError(
            f"release {to} is void: {change.state['void'][to]}",
            where=store.root,
            remedy="Roll back to FP32 or to another release.",
        )
    stays = state["live"] == to and not store.live_problems(state, False)
    if not stays and (wrong := _staged_problems(store, to, False)):
        raise ModelOpsError(
            "there is no such complete release: " + "; ".join(wrong),
            where=store.root,
            remedy=f"Roll back to FP32, or to one of: {', '.join(store.staged()) or 'none'}.",
        )
    if stays and state["active"] == to and change.texts.before == change.texts.after:
        return _merge(recovered, change.perform(check_mode))
    damaged = bool(store.live_problems(state, False))
    _switch(change, None if stays else to, damaged=damaged, move_out=not stays)
    record(change.state, "rolled back", to, by, reason)
    change.save(
        active=to, live=to, last_good=to, confirmed=True, deadline=None, before=None, pending=None,
    )  # fmt: skip
    return _merge(recovered, change.perform(check_mode))


def prune(store: Store, keep: int, check_mode: bool) -> dict[str, Any]:
    """Remove releases that nobody needs, newest kept first, and what damaged ones left behind.

    Never removed: the active, live and last good release, the one behind an activation that is
    not confirmed, and a pair that the owner himself put there (`unmanaged-*`).
    """
    state = store.load()
    change = Change(store, state)
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
    return change.perform(check_mode)


def recover(store: Store, check_mode: bool = False) -> dict[str, Any] | None:
    """Undo a move that was interrupted, so that everything is as before it; None without one."""
    try:
        state = store.load()
    except ModelOpsError:
        return None  # whoever needs the state says what is wrong with it
    pending = state["pending"]
    if not pending:
        return None
    change = Change(store, state)
    change.do("undo the move that was interrupted", lambda: _undo(store, pending))
    record(change.state, "undone", pending["in"] or FP32, "recovery", "it was interrupted")
    change.save(pending=None)
    return change.perform(check_mode)


def _undo(store: Store, pending: Mapping[str, Any]) -> None:
    """Bring configuration and pairs back to where they were; killed inside, it starts over."""
    path = Path(pending["config"])
    texts = {kind: _stored(store, kind) for kind in ("before", "fp32", "after")}
    current = config_file.read(path)
    # First the configuration names FP32, then the pairs move, then it names what it named before.
    # Before and after may be one text, when one INT8 pair replaces another: no short cut there.
    if current is not None and current != texts["fp32"]:
        planned = current in (texts["before"], texts["after"]) and texts["fp32"] is not None
        safe = texts["fp32"] if planned else config_file.without_int8(current, store.name, path)
        assert safe is not None
        if safe != current:
            config_file.replace(path, safe, config_file.digest(current))
        current = safe
    arriving = store.releases / pending["in"] if pending["in"] else None
    leaving = store.releases / pending["out"] if pending["out"] else None
    for live in store.live:
        if arriving and live.exists() and not (arriving / live.name).exists():
            rename_durable(live, arriving / live.name)
    for live in reversed(store.live):
        if leaving and (leaving / live.name).exists() and not live.exists():
            rename_durable(leaving / live.name, live)
    if texts["before"] is not None and current == texts["fp32"]:
        config_file.replace(path, texts["before"], config_file.digest(current))


def _switch(change: Change, arriving: str | None, *, damaged: bool, move_out: bool = True) -> None:
    """Plan the moves: FP32 in the configuration, old pair out, new pair in, the new text.

    Args:
        arriving: the release whose pair moves to the live names; None for none.
        damaged: whether the pair at the live names is not what the state says.
        move_out: whether the pair at the live names leaves.
    """
    store, state, texts = change.store, change.state, change.texts
    assert texts is not None
    for path in (*store.live, store.releases, store.incoming):
        if path.is_symlink():
            raise ModelOpsError(
                "a symbolic link stands where a file or folder of this project belongs",
                where=path,
                remedy="Look who put it there, and remove it.",
            )
    there = [path for path in store.live if path.exists()] if move_out else []
    leaving = _leaving(state, damaged) if there else None
    if leaving:
        folder = store.releases / leaving
        if leaving.startswith("damaged-") and folder.exists():
            change.do(f"remove {folder}", lambda: shutil.rmtree(folder))
        change.do(f"make {folder}", lambda: folder.mkdir(parents=True, exist_ok=True))
    for kind in ("before", "fp32", "after"):
        text = getattr(texts, kind)
        change.do(f"keep the text {kind}", partial(_store, store, kind, text))
    change.save(pending={"in": arriving, "out": leaving, "config": str(texts.path)})
    _write_config(change, texts.before, texts.fp32)
    for path in there:
        assert leaving is not None
        _move(change, path, store.releases / leaving / path.name)
    if arriving:
        for path in reversed(store.live):
            _move(change, store.releases / arriving / path.name, path)
    _write_config(change, texts.fp32, texts.after)


def _leaving(state: State, damaged: bool) -> str:
    """Return the folder that the pair at the live names moves to; nothing of anybody's is lost."""
    if state["live"] is None:
        return f"unmanaged-{now().replace(':', '')}"
    return f"damaged-{state['live']}" if damaged else str(state["live"])


def _texts(store: Store, config: Mapping[str, Any] | None, to: str) -> Texts:
    """Return the texts that lead to naming `to`, with or without a controller's plan."""
    if config is not None:
        plan = config_file.Plan(config)
        return Texts(plan.path, plan.before, plan.fp32, plan.fp32 if to == FP32 else plan.int8)
    path = Path(_required(_stored(store, "path"), store).decode())
    current = _required(config_file.read(path), store)
    if current == _stored(store, "after"):
        fp32 = _required(_stored(store, "fp32"), store)
    else:
        fp32 = config_file.without_int8(current, store.name, path)
    return Texts(path, current, fp32, fp32 if to == FP32 else current)


def _required(text: bytes | None, store: Store) -> bytes:
    if text is None:
        raise ModelOpsError(
            "it is not known how the configuration named FP32",
            where=store.texts,
            remedy="Run rollback.yml, which plans it anew.",
        )
    return text


def _stored(store: Store, kind: str) -> bytes | None:
    path = store.texts / kind
    return path.read_bytes() if path.is_file() else None


def _store(store: Store, kind: str, text: bytes | None) -> None:
    store.texts.mkdir(parents=True, exist_ok=True, mode=0o700)
    if text is None:
        (store.texts / kind).unlink(missing_ok=True)
    else:
        write_atomic(store.texts / kind, text, 0o600)


def _write_config(change: Change, current: bytes | None, wanted: bytes) -> None:
    texts = change.texts
    assert texts is not None
    if current != wanted:
        change.do(
            f"write {texts.path}",
            lambda: config_file.replace(texts.path, wanted, config_file.digest(current)),
        )


def _keep_backup(change: Change, plan: config_file.Plan) -> None:
    before, store = plan.before, change.store
    path = str(plan.path).encode()
    change.do("keep the configuration's path", lambda: _store(store, "path", path))
    if before is not None and before != plan.int8:
        backup = plan.path.with_name(f"{plan.path.name}.bak")
        mode = plan.path.stat().st_mode & 0o777
        change.do(f"write {backup}", lambda: write_atomic(backup, before, mode))


def _move(change: Change, source: Path, dest: Path) -> None:
    change.do(f"move {source} -> {dest}", lambda: rename_durable(source, dest))


def _clear_incoming(store: Store, incoming: Path) -> None:
    """Remove the folder of a transfer that was staged; a folder that a person named stays."""
    if incoming.parent == store.incoming:
        shutil.rmtree(incoming, ignore_errors=True)
        fsync_dir(store.incoming)


def _staged_problems(store: Store, release: str, verify: bool) -> list[str]:
    folder = store.folder(release)
    try:
        entries = store.manifest(release)["artifacts"]
    except ModelOpsError as error:
        return [str(error)]
    return store.whole(folder, entries, verify)


def _require_way_back(store: Store, listed: Mapping[str, Any] | None) -> None:
    wrong = store.fp32_problems(list(listed["source"]) if listed else None, listed is not None)
    if wrong:
        raise ModelOpsError(
            "the FP32 pair, the way back, is not whole: " + "; ".join(wrong),
            where=store.root,
            remedy="Copy the FP32 pair that was quantized there again. Nothing was changed.",
        )


def _put_broken_state_aside(store: Store, to: str, check_mode: bool) -> bool:
    """The way back to FP32 must not depend on a state that somebody damaged."""
    try:
        store.load()
    except ModelOpsError:
        if to != FP32:
            raise
        if not check_mode:
            aside = store.state_file.with_name("state.json.broken")
            rename_durable(store.state_file, aside)
        return True
    return False


def _merge(first: dict[str, Any] | None, second: dict[str, Any]) -> dict[str, Any]:
    """Join what recovery did with what the operation did."""
    if first is None:
        return second
    return {**second, "changed": True, "moved": [*first["moved"], *second["moved"]]}
