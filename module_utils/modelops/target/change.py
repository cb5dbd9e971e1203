"""How artifacts and configuration move on a target, and how an interrupted move is undone.

Standard library only. A change is a list of small steps. Between any two of them, and within each,
the configuration names a model whose graph and data are both there and belong together.
"""

from __future__ import annotations

import difflib
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import give_access, rename_durable
from ..base.hidden import masked
from ..config import replace
from ..pair.copy import copy_file
from . import run_lock, trusted
from .store import FP32, State, Store, record, stamp
from .texts import Texts, by_hand, keep_text, stored

P = ParamSpec("P")


class Step(NamedTuple):
    """One thing to do, and how it is called."""

    text: str
    act: Callable[[], object]


class Change:
    """The steps of one operation, and what it gives back.

    Args:
        recovered: a move that was interrupted has just been undone.
    """

    def __init__(self, store: Store, state: State, recovered: bool = False) -> None:
        self.store, self.state, self.recovered = store, state, recovered
        self.steps: list[Step] = []
        self.texts: Texts | None = None
        self.notes: list[str] = []

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
                try:
                    step.act()
                except OSError as error:
                    # A disk that somebody filled must not stand in the way back.
                    if error.errno != errno.ENOSPC or not self.store.give_room():
                        raise
                    step.act()
        result: dict[str, Any] = {
            "changed": bool(self.steps),
            "state": self.state,
            "moved": [step.text for step in self.steps],
            "notes": self.notes,
        }
        if self.texts:
            there = self.texts.after if check_mode else replace.read(self.texts.path)
            result["written"] = there == self.texts.after
        if self.texts and self.texts.before != self.texts.after:
            result["diff"] = {
                "before_header": str(self.texts.path),
                "after_header": str(self.texts.path),
                **changed_lines(self.texts.before or b"", self.texts.after),
            }
        return result


def changed_lines(before: bytes, after: bytes) -> dict[str, str]:
    """Return the lines `before` and `after` that are not the same in both.

    Those beside them are the owner's, and may hold his keys.
    """
    old, new = (text.decode(errors="replace").splitlines(keepends=True) for text in (before, after))
    edits = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    edits = [edit for edit in edits if edit[0] != "equal"]
    return {
        "before": masked("".join(line for _, i, end, *_ in edits for line in old[i:end])),
        "after": masked("".join(line for *_, j, end in edits for line in new[j:end])),
    }


@contextmanager
def alone(store: Store, config: Mapping[str, Any] | None) -> Iterator[None]:
    """Let one call at a time change the models' folder, and the configuration, which others share.

    Args:
        config: see config_file.Plan; without it the configuration of the last activation.

    Raises:
        ModelOpsError: another call is at work there for too long.
    """
    path = config["path"] if config else store.config_path()
    with ExitStack() as held:
        held.enter_context(run_lock.one_call(store.root))
        folder = Path(path).parent if path else store.root
        if folder.is_dir() and not folder.samefile(store.root):
            held.enter_context(run_lock.one_call(folder))
        yield


def recover(
    store: Store, check_mode: bool = False, *, restore: bool = True
) -> dict[str, Any] | None:
    """Undo a move that was interrupted, so that everything is as before it; None without one.

    Without `restore`, or when the pair of before is broken, the configuration goes on naming FP32.
    """
    try:
        state = store.load()
    except ModelOpsError:
        return None  # whoever needs the state says what is wrong with it
    pending = state["pending"]
    if not pending:
        return None
    change = Change(store, state)
    record(change.state, "undone", pending["in"] or FP32, "recovery", "it was interrupted")
    change.do("undo the move that was interrupted", lambda: _undo(store, state, restore))
    change.save(pending=None)
    return change.perform(check_mode)


def _undo(store: Store, state: State, restore: bool) -> None:
    """Bring configuration and artifacts back to where they were; killed inside, it starts over."""
    pending = state["pending"]
    path = Path(pending["config"])
    texts = {kind: stored(store, kind) for kind in ("before", "fp32", "after")}
    current = replace.read(path)
    # First the configuration names FP32, then the pairs move, then it names what it named before.
    # Before and after may be one text, when one INT8 pair replaces another: no short cut there.
    if current is not None and current != texts["fp32"]:
        planned = current in (texts["before"], texts["after"]) and texts["fp32"] is not None
        safe = texts["fp32"] if planned else by_hand(store, current, path)
        assert safe is not None
        if safe != current:
            require_way_back(store, None)
            replace.replace(path, safe, replace.digest(current))
        current = safe
    arriving = store.releases / pending["in"] if pending["in"] else None
    leaving = store.releases / pending["out"] if pending["out"] else None
    # Its data file may still be that of what was leaving when it came to the graph alone.
    names = pending.get("names") or [live.name for live in store.live]
    for live in (live for live in store.live if live.name in names):
        if arriving and live.exists() and not (arriving / live.name).exists():
            rename_durable(live, arriving / live.name)
    for live in reversed(store.live):
        if leaving and (leaving / live.name).exists() and not live.exists():
            rename_durable(leaving / live.name, live)
    before, fp32 = texts["before"], texts["fp32"]
    if not restore or current is None or before is None or fp32 is None:
        return
    # Another model's run may have changed its own block since.
    back = before if current == fp32 else replace.carry_over(current, fp32, before)
    wrong = store.live_problems(state, True) or trusted.problem(store, state["active"])
    if back not in (None, current) and not wrong:
        assert back is not None
        replace.replace(path, back, replace.digest(current))


def switch(
    change: Change,
    arriving: str | None,
    *,
    damaged: bool,
    move_out: bool = True,
    listed: Mapping[str, Any] | None = None,
) -> None:
    """Plan the moves: FP32 in the configuration, old artifacts out, new ones in, the new text.

    Args:
        arriving: the release whose pair moves to the live names; None for none.
        listed: its manifest; that in the store by default.
        damaged: whether the pair at the live names is not what the state says.
        move_out: whether the pair at the live names leaves.
    """
    store, state, texts = change.store, change.state, change.texts
    assert texts is not None
    for path in (*store.live, store.releases.parent, store.releases, store.incoming):
        if path.is_symlink():
            raise ModelOpsError(
                "a symbolic link stands where a file or folder of this project belongs",
                where=path,
                remedy="Look who put it there, and remove it.",
            )
    there = [path for path in store.live if path.exists()] if move_out else []
    leaving = _leaving(store, state, damaged) if there else None
    if leaving:
        folder = store.releases / leaving
        if leaving.startswith("damaged-") and folder.exists():
            change.do(f"remove {folder}", lambda: shutil.rmtree(folder))
        change.do(f"make {folder}", lambda: folder.mkdir(parents=True, exist_ok=True))
    kept = partial(keep_text, store, "path", str(texts.path).encode())
    change.do("keep the configuration's path", kept)
    for kind in ("before", "fp32", "after"):
        text = getattr(texts, kind)
        change.do(f"keep the text {kind}", partial(keep_text, store, kind, text))
    arrives = (listed or store.manifest(arriving))["artifacts"] if arriving else []
    names = [entry["name"] for entry in arrives]
    change.save(pending={"in": arriving, "out": leaving, "names": names, "config": str(texts.path)})
    write_config(change, texts.before, texts.fp32)
    for path in there:
        assert leaving is not None
        move(change, path, store.releases / leaving / path.name)
    if arriving:
        entries = {entry["name"]: entry for entry in arrives}
        for path in (path for path in reversed(store.live) if path.name in entries):
            source = store.releases / arriving / path.name
            make_own(change, source, entries[path.name])
            move(change, source, path, like=store.fp32_graph)
    write_config(change, texts.fp32, texts.after)


def _leaving(store: Store, state: State, damaged: bool) -> str:
    """Return the folder that the live artifacts move to; nothing of anybody's is lost."""
    home = store.releases / str(state["live"])
    taken = any((home / path.name).exists() for path in store.live)
    if state["live"] is None or (taken and not damaged):
        return f"unmanaged-{stamp()}"
    return f"damaged-{state['live']}" if damaged else str(state["live"])


def write_config(change: Change, current: bytes | None, wanted: bytes) -> None:
    texts = change.texts
    assert texts is not None
    if texts.aside and current is not None and current == texts.before != wanted:
        aside = texts.path.with_name(f"{texts.path.name}.aside-{stamp()}")
        change.do(f"keep {texts.path} as {aside}", lambda: replace.keep_aside(texts.path, aside))
        change.notes.append(
            f"{texts.path} got the text of the last activation back, since no edit could be made in"
            f" it ({texts.aside}). What was there is {aside}."
        )
    if current != wanted:
        change.do(
            f"write {texts.path}",
            lambda: replace.replace(texts.path, wanted, replace.digest(current)),
        )


def move(change: Change, source: Path, dest: Path, like: Path | None = None) -> None:
    """Plan a move; what arrives `like` another file can be read by whoever reads that one."""

    def act() -> None:
        if like is not None:
            give_access(source, like)
        rename_durable(source, dest)

    change.do(f"move {source} -> {dest}", act)


def take(change: Change, source: Path, dest: Path, entry: Mapping[str, Any], own: bool) -> None:
    """Plan that a file comes into the store: as it is where it is ours alone, else as a copy.

    Args:
        own: whether a run brought it, so that nothing is lost when it leaves its place.
    """
    if own and opener.is_own(source):
        move(change, source, dest)
    else:
        change.do(f"copy {source} -> {dest}", lambda: copy_file(source, dest, entry))


def make_own(change: Change, path: Path, entry: Mapping[str, Any]) -> None:
    """Plan that a file that somebody else may write becomes a copy that nobody else can write."""
    like = change.store.fp32_graph
    if not opener.is_own(path, like):

        def act() -> None:
            copy_file(path, path, entry)
            give_access(path, like)

        change.do(f"copy {path}, which others may write, to a file of our own", act)


def own_live(change: Change, artifacts: Sequence[Mapping[str, Any]]) -> None:
    """Plan that the live artifacts are ours alone: a version before took over others' files."""
    for entry in artifacts:
        make_own(change, change.store.root / entry["name"], entry)


def require_way_back(store: Store, listed: Mapping[str, Any] | None) -> None:
    wrong = store.fp32_problems(list(listed["source"]) if listed else None, listed is not None)
    if wrong:
        raise ModelOpsError(
            "FP32, which a way back needs, is not whole: " + "; ".join(wrong),
            where=store.root,
            remedy="Copy the FP32 files that were quantized there again. Nothing was changed.",
        )


def joined(first: dict[str, Any] | None, second: dict[str, Any]) -> dict[str, Any]:
    """Join what recovery did with what the operation did."""
    if first is None:
        return second
    return {
        **second,
        "changed": True,
        **{name: [*first[name], *second[name]] for name in ("moved", "notes")},
    }


def performed(
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
        restore: see `recover`.
        state: the state, where that of the store is not to be read.
    """
    recovered = recover(store, check_mode, restore=restore)
    if recovered and check_mode:
        return recovered
    change = Change(store, state or store.load(), recovered=bool(recovered))
    steps(change)
    return joined(recovered, change.perform(check_mode))


def after_recovery(
    steps: Callable[Concatenate[Change, P], None],
) -> Callable[Concatenate[Store, P], dict[str, Any]]:
    """Make an operation of what plans its steps. `check_mode` is an option by its name."""

    @wraps(steps)
    def operation(store: Store, /, *values: P.args, **options: P.kwargs) -> dict[str, Any]:
        check_mode = bool(options.get("check_mode"))
        return performed(store, lambda change: steps(change, *values, **options), check_mode)

    return operation
