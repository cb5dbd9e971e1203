"""A disk that can be hindered: every file operation below a folder is recorded, and may fail.

`Recorder` stands between the code under test and the system. `Disk` replays a record and gives the
states that a power cut could leave: what was not made durable with fsync may be lost, may be there
in part, or may have become durable in another order than it was done.
"""

from __future__ import annotations

import builtins
import io
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

READING = frozenset({"open to read", "read"})


@dataclass(frozen=True)
class Op:
    """A file operation: `inode` and `content` where the kind has them, `target` of a rename."""

    kind: str
    path: Path
    target: Path | None = None
    inode: int = 0
    offset: int = 0
    content: bytes = b""
    is_folder: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.path.name}{f' -> {self.target.name}' if self.target else ''}"


class LeftOut(Exception):  # noqa: N818  it is no error, but how a hook takes a call out
    """Raised by a hook: the call is not made, and looks to the code as if it had succeeded."""


Hook = Callable[[Op], None]


class Recorder:
    """Records what changes files below `root`, in order, and lets a hook hinder it.

    Args:
        root: other folders are left alone.
        hook: called before each operation, reading included; what it raises comes out of the call.
    """

    def __init__(self, root: Path, hook: Hook = lambda op: None) -> None:
        self.ops: list[Op] = []
        self._root, self._hook = root.resolve(), hook
        self._lock = threading.RLock()

    def install(self, setattr_: Callable[[object, str, object], None]) -> None:
        """Take the place of the system's calls, with `setattr` or a MonkeyPatch's."""
        setattr_(io, "open", self._open)
        setattr_(builtins, "open", self._open)
        for name in ("replace", "rename"):
            setattr_(os, name, self._renaming(getattr(os, name)))
        for name in ("unlink", "remove", "mkdir", "rmdir"):
            setattr_(os, name, self._naming(name.replace("remove", "unlink"), getattr(os, name)))
        for name in ("fsync", "ftruncate"):
            setattr_(os, name, self._on_descriptor(name, getattr(os, name)))
        setattr_(os, "write", self._writing(os.write))
        setattr_(os, "open", self._opening(os.open))

    def observe(self, op: Op, call: Callable[[], object]) -> object:
        """Make a call that `op` describes, unless the hook has something against it."""
        if not self._is_ours(op.path):
            return call()
        if op.kind in READING:
            with self._lock:
                self._hook(op)
            return call()
        with self._lock:
            try:
                self._hook(op)
            except LeftOut:
                return None
            result = call()
            self.ops.append(op)
            return result

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self._root)

    def _open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None,
              closefd=True, opener=None):  # fmt: skip
        raw = _File(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        kinds = {(True, True): io.BufferedRandom, (False, True): io.BufferedWriter}
        buffered = kinds.get((raw.readable(), raw.writable()), io.BufferedReader)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def _opening(self, call):
        def opened(path, flags, mode=0o777, *, dir_fd=None):
            place = _resolve(path, dir_fd)
            if not flags & (os.O_WRONLY | os.O_RDWR) or not self._is_ours(place):
                op = Op("open to read", place)
                return self.observe(op, lambda: call(path, flags, mode, dir_fd=dir_fd))
            with self._lock:
                nameless = flags & os.O_TMPFILE == os.O_TMPFILE
                created = not nameless and not place.exists()
                kind = "scratch" if nameless else "create" if created else "open to write"
                self._hook(Op(kind, place))
                descriptor = call(path, flags, mode, dir_fd=dir_fd)
                inode = os.fstat(descriptor).st_ino
                self.ops.append(Op(kind, place, inode=inode))
                if flags & os.O_TRUNC and not created:
                    self.ops.append(Op("ftruncate", place, inode=inode))
            return descriptor

        return opened

    def _renaming(self, call):
        def renamed(source, destination, **folders):
            op = Op("replace", _resolve(source), _resolve(destination))
            return self.observe(op, lambda: call(source, destination, **folders))

        return renamed

    def _naming(self, kind, call):
        def named(path, *args, dir_fd=None, **rest):
            op = Op(kind, _resolve(path, dir_fd))
            return self.observe(op, lambda: call(path, *args, dir_fd=dir_fd, **rest))

        return named

    def _on_descriptor(self, kind, call):
        def done(descriptor, *args):
            path, status = _path_of(descriptor), os.fstat(descriptor)
            folder = bool(status.st_mode & 0o040000)
            op = Op(kind, path, inode=status.st_ino, is_folder=folder)
            return self.observe(op, lambda: call(descriptor, *args))

        return done

    def _writing(self, call):
        def written(descriptor, content):
            return self.write_in_halves(
                descriptor, content, lambda part: call(descriptor, part), _path_of(descriptor)
            )

        return written

    def write_in_halves(self, descriptor, content, call, path: Path) -> int:
        """Write as two operations, so that a fault can come in the middle."""
        if not self._is_ours(path):
            return call(content)
        content = bytes(content)
        inode, done = os.fstat(descriptor).st_ino, 0
        middle = len(content) // 2
        for part in filter(None, (content[:middle], content[middle:])):
            offset = os.lseek(descriptor, 0, os.SEEK_CUR)
            op = Op("write", path, inode=inode, offset=offset, content=part)
            self.observe(op, lambda part=part: call(part))
            done += len(part)
        return done


class _File(io.FileIO):
    """What open() gives: a raw file whose calls are recorded."""

    def __init__(self, recorder: Recorder, file, mode: str, closefd: bool, opener) -> None:
        self._recorder = recorder
        plain = opener is None and not isinstance(file, int)
        super().__init__(file, mode, closefd, opener if not plain else self._through_os)
        self._path = _path_of(self.fileno())

    @staticmethod
    def _through_os(path, flags):
        return os.open(path, flags, 0o666)

    def write(self, content) -> int:
        return self._recorder.write_in_halves(
            self.fileno(), content, super().write, self._path
        )  # fmt: skip

    def readinto(self, buffer) -> int:
        return self._recorder.observe(
            Op("read", self._path), lambda: io.FileIO.readinto(self, buffer)
        )

    def readall(self) -> bytes:
        return self._recorder.observe(Op("read", self._path), lambda: io.FileIO.readall(self))


def _resolve(path, dir_fd=None) -> Path:
    folder = _path_of(dir_fd) if dir_fd is not None else Path.cwd()
    whole = folder / os.fsdecode(path)
    return whole.parent.resolve() / whole.name


def _path_of(descriptor: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


# --- power loss --------------------------------------------------------------------------------

Entries = dict[str, int]  # name to file
FOLDER = -1


@dataclass(frozen=True)
class _Change:
    """What happens to a folder's entries; both halves of a rename have its number."""

    entries: dict[str, int | None]
    rename: int = 0


@dataclass
class _Folder:
    durable: Entries = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)

    def now(self) -> Entries:
        return _changed(self.durable, self.pending)

    def settle(self, wanted: Callable[[_Change], bool]) -> set[int]:
        """Make changes durable; return the renames among them."""
        done = [change for change in self.pending if wanted(change)]
        self.durable = _changed(self.durable, done)
        self.pending = [change for change in self.pending if change not in done]
        return {change.rename for change in done} - {0}


@dataclass
class _Stored:
    content: bytes = b""
    durable: bytes = b""
    dirty: bool = False


State = dict[str, bytes]  # path below the root to content


class Disk:
    """A model of a disk that keeps for sure only what fsync was called for.

    Folders keep each entry's change on its own: un-synced changes may reach the disk in any order.
    A file keeps the content of its last fsync; newer content may be there whole, or in part with
    a tail of zeros.

    Args:
        journal: a rename from folder to folder is there as a whole or not at all, as on ext4, XFS
            and NTFS; without it one half may be.
    """

    def __init__(self, root: Path, journal: bool = False) -> None:
        self.root = root.resolve()
        self._journal, self._renames = journal, itertools.count(1)
        self._folders: dict[Path, _Folder] = {}
        self._files: list[_Stored] = []
        self._of_inode: dict[int, int] = {}
        for folder, folders, names in os.walk(self.root):
            here = self._folders[Path(folder)] = _Folder(dict.fromkeys(folders, FOLDER))
            for name in names:
                path = Path(folder, name)
                here.durable[name] = self._new(path.stat().st_ino)
                self._files[-1] = _Stored(path.read_bytes(), path.read_bytes())

    def apply(self, op: Op) -> None:
        """Do what was recorded."""
        parent = self._folders.get(op.path.parent, _Folder())
        if op.kind in ("create", "scratch"):
            number = self._new(op.inode)
            if op.kind == "create":
                parent.pending.append(_Change({op.path.name: number}))
        elif op.kind == "mkdir":
            self._folders[op.path] = _Folder()
            parent.pending.append(_Change({op.path.name: FOLDER}))
        elif op.kind in ("unlink", "rmdir"):
            parent.pending.append(_Change({op.path.name: None}))
            self._folders.pop(op.path, None)
        elif op.kind == "replace":
            self._rename(op)
        elif op.kind == "fsync" and op.is_folder:
            renames = self._folders[op.path].settle(lambda change: True)
            for folder in self._folders.values():
                folder.settle(lambda change: change.rename in renames)
        elif op.kind in ("write", "ftruncate", "fsync"):
            self._change(self._files[self._of_inode[op.inode]], op)

    def now(self) -> State:
        """What a program sees."""
        return {
            str((folder / name).relative_to(self.root)): self._files[number].content
            for folder, entries in self._folders.items()
            for name, number in entries.now().items()
            if number != FOLDER
        }

    def after_power_loss(self) -> Iterator[State]:
        """Yield the states that the disk can come back with."""
        seen = set()
        choices = [list(_survivors(folder)) for folder in self._folders.values()]
        for kept in itertools.product(*choices):
            chosen = tuple(entries for entries, _ in kept)
            halves = Counter(itertools.chain.from_iterable(renames for _, renames in kept))
            if any(count == 1 for count in halves.values()):
                continue
            places = {
                str((folder / name).relative_to(self.root)): number
                for folder, entries in zip(self._folders, chosen, strict=True)
                for name, number in entries.items()
                if number != FOLDER and self._has_name(folder, chosen)
            }
            for contents in itertools.product(*(self._contents(n) for n in places.values())):
                state = dict(zip(places, contents, strict=True))
                key = tuple(sorted(state.items()))
                if key not in seen:
                    seen.add(key)
                    yield state

    def _has_name(self, folder: Path, chosen: tuple[Entries, ...]) -> bool:
        """Tell whether a folder below the root survived itself, with those around it."""
        around = dict(zip(self._folders, chosen, strict=True))
        return folder == self.root or (
            folder.name in around.get(folder.parent, {}) and self._has_name(folder.parent, chosen)
        )

    def _new(self, inode: int) -> int:
        self._files.append(_Stored())
        self._of_inode[inode] = len(self._files) - 1
        return self._of_inode[inode]

    def _rename(self, op: Op) -> None:
        assert op.target is not None
        source, target = self._folders[op.path.parent], self._folders[op.target.parent]
        number = source.now()[op.path.name]
        if source is target:
            source.pending.append(_Change({op.path.name: None, op.target.name: number}))
        else:
            rename = next(self._renames) if self._journal else 0
            target.pending.append(_Change({op.target.name: number}, rename))
            source.pending.append(_Change({op.path.name: None}, rename))

    def _change(self, file: _Stored, op: Op) -> None:
        if op.kind == "fsync":
            file.durable, file.dirty = file.content, False
            return
        if op.kind == "ftruncate":
            file.content = b""
        else:
            before = file.content[: op.offset].ljust(op.offset, b"\0")
            file.content = before + op.content + file.content[op.offset + len(op.content) :]
        file.dirty = True

    def _contents(self, number: int) -> list[bytes]:
        file = self._files[number]
        if not file.dirty:
            return [file.content]
        torn = file.content[: len(file.content) // 2].ljust(len(file.content), b"\0")
        return list(dict.fromkeys([file.durable, torn, file.content]))


def _survivors(folder: _Folder) -> Iterator[tuple[Entries, frozenset[int]]]:
    """The entries that a folder can come back with, and the renames that these show.

    Any of the pending changes survive, in their order.
    """
    count = len(folder.pending)
    if count <= 3:
        kept = [c for n in range(count + 1) for c in itertools.combinations(range(count), n)]
    else:  # prefixes, all but one, and single ones
        whole = range(count)
        kept = [tuple(range(n)) for n in range(count + 1)]
        kept += [tuple(i for i in whole if i != left) for left in whole]
        kept += [(i,) for i in whole]
    seen = []
    for chosen in kept:
        changes = [folder.pending[i] for i in chosen]
        renames = frozenset(change.rename for change in changes) - {0}
        state = _changed(folder.durable, changes), renames
        if state not in seen:
            seen.append(state)
            yield state


def _changed(entries: Entries, changes: Iterable[_Change]) -> Entries:
    result: dict[str, int | None] = dict(entries)
    for change in changes:
        result.update(change.entries)
    return {name: number for name, number in result.items() if number is not None}
