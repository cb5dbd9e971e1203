"""Releases on a target: query, stage, prune. See activation and rollback for the others.

Standard library only. Every operation is a list of small steps (see moves), so that check mode
prints what a real run does. What was under way stands in the state, and every operation undoes it
first (change.performed).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import fsync_dir, require_space, write_atomic
from ..pair import manifest
from . import trusted
from .change import Change, after_recovery, take
from .store import FP32, TRANSFER_AGAIN, State, Store, fresh_state


def query(store: Store, verify: bool) -> dict[str, Any]:
    """Return the state and what is wrong, without changing anything.

    Returns:
        `state`; `kind`: what is in service (manifest.kind), empty on FP32; `whole`: the releases
        whose artifacts and golden data are right; `lacking`: which files of the release that the
        controller knows are not here; `problems`; `hashed`: which files need not be hashed again
        in this run; `free_bytes` of the disk; `serial`: the highest that was accepted, None where
        nobody asks for signatures.
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
        if release not in whole and not store.staged_problems(release, verify):
            whole.append(release)
    whole = [
        release
        for release in whole
        if not store.golden_problems(release, verify) and trusted.has_proof(store, release)
    ]
    problems += filter(None, [trusted.problem(store, state["active"])])
    free = shutil.disk_usage(store.root).free if store.root.is_dir() else 0
    lacking = [entry["name"] for entry in _lacking(store, state, store.known)]
    return {
        "state": state, "kind": _kind(store, state["active"]), "whole": whole, "lacking": lacking,
        "problems": problems, "hashed": store.hashed.told, "free_bytes": free,
        "serial": store.trust.known_serial(store.name),
    }  # fmt: skip


def _kind(store: Store, release: str) -> str:
    """Return what a release is, as far as its manifest here says so; empty for FP32."""
    if release == FP32:
        return ""
    try:
        return manifest.kind(store.manifest(release).get("recipe", {}))
    except (ModelOpsError, OSError):
        return manifest.OTHER


def _lacking(store: Store, state: State, listed: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the entries of a release's files that are not here; its manifest here has no say."""
    if not listed:
        return []
    folder, entries = store.folder(listed["release_id"]), listed["artifacts"]
    files = manifest.files(listed)
    if state["live"] == listed["release_id"] and not store.whole(store.root, entries, True):
        files = [entry for entry in files if entry not in entries]
    return [entry for entry in files if store.whole(folder, [entry], True)]


@after_recovery
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
    trusted.require(store, release, listed, fresh=True, check_mode=check_mode)
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
    if not rows and opener.holds(kept, content) and trusted.has_proof(store, release):
        return
    # What a run brought here itself moves; what others brought is copied, and stays theirs.
    own = incoming == store.incoming / release
    if not own and not check_mode:
        require_space(store.root, sum(entry["size"] for entry in todo), "a copy of the pair")
    change.do(f"make {folder}", lambda: folder.mkdir(parents=True, exist_ok=True))
    change.do(f"write {kept}", lambda: write_atomic(kept, content))
    if signature := store.signature.encode():
        proof = trusted.proof(store, release)
        change.do(f"write {proof}", lambda: write_atomic(proof, signature))
    for entry in sorted(todo, key=lambda e: str(e["name"]), reverse=True):  # data, then the graph
        take(change, incoming / entry["name"], folder / entry["name"], entry, own)
    if own:
        change.do(f"clear {incoming}", lambda: _clear_incoming(incoming))


@after_recovery
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


def _clear_incoming(incoming: Path) -> None:
    """Remove the folder of a transfer that was staged."""
    shutil.rmtree(incoming, ignore_errors=True)
    fsync_dir(incoming.parent)
