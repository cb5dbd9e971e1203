"""What lies where on a target, and the state that says which release is in service.

Standard library only: it runs with the target's own Python.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from ..model import declared
from ..pair import manifest, names
from ..signing.trust import Trust
from . import believable, takeover
from .believable import FP32 as FP32
from .hashed import Hashed

SCHEMA = 1
INCOMING = ".incoming"  # below the folder of the models: what was transferred and is not staged
HISTORY_LENGTH = 200
TRANSFER_AGAIN = "Run quantize.yml again: the pair is then transferred again."
# Room that a full disk cannot take: the way back writes a few small files.
LONGEST_PATH = 4096  # bytes
RESERVE_BYTES = 256 << 10

State = dict[str, Any]


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def stamp() -> str:
    """Return the time in UTC for a file name that nobody has yet."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"


def fresh_state() -> State:
    """Return the state of a target that never saw a release.

    `active` is what the configuration names (FP32 or an id), `live` the release whose pair stands
    under the live names, `last_good` the last one committed, `before` what was active and live
    before an activation that is not confirmed yet, `pending` the move under way.
    """
    return {
        "schema": SCHEMA,
        "active": FP32,
        "live": None,
        "last_good": FP32,
        "confirmed": True,
        "deadline": None,
        "before": None,
        "pending": None,
        "previous": {},
        "void": {},
        "history": [],
    }


class Store:
    """What a target keeps of one model, in the folder that all its models share.

    Args:
        known: the manifest of the release that the call is about, as the controller knows it. What
            the target keeps of that release counts only where it says the same.
        hashed: which files the run has hashed already.
        trust: which releases are let in here.
        signature: that of `known`, as the controller knows it; empty without one.
        recorded: the SHA-256 of the manifests that the controller recorded, a list for each
            release: for a call that has none of its own.

    Raises:
        ModelOpsError: no path can be made of the model's name, or the manifest is not usable.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        known: Mapping[str, Any] | None = None,
        hashed: Mapping[str, Any] | None = None,
        trust: Trust | None = None,
        signature: str = "",
        recorded: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.root = root
        self.trust = trust or Trust()
        self.signature = signature
        self.name = names.check(name)
        self.hashed = Hashed(hashed or {})
        self.recorded = dict(recorded or {})
        called = names.of(name)
        # The graph comes first: wherever artifacts move, it leaves first and arrives last.
        self.live = [root / called.int8, root / called.int8_data]
        self.releases = takeover.place(root, self.name)
        self.incoming = root / INCOMING
        self.state_file = self.releases / "state.json"
        self.texts = self.releases / "config"
        self.known = manifest.check(known, "option manifest") if known else None
        if self.known:
            self.require_own(self.known, "option manifest")

    @property
    def fp32_graph(self) -> Path:
        """The FP32 graph."""
        return self.root / names.of(self.name).fp32

    @property
    def reserve(self) -> Path:
        """The file that keeps RESERVE_BYTES of the disk for the way back."""
        return self.releases / "reserve"

    def keep_room(self) -> None:
        """Take the reserve, before a release needs it."""
        self.releases.mkdir(parents=True, exist_ok=True)
        if not self.reserve.is_file() or self.reserve.stat().st_size != RESERVE_BYTES:
            write_atomic(self.reserve, os.urandom(RESERVE_BYTES))  # not sparse, on any file system

    def give_room(self) -> bool:
        """Give the reserve up; tell whether there was one."""
        if not self.reserve.is_file():
            return False
        self.reserve.unlink()
        return True

    def folder(self, release: str) -> Path:
        """Return the folder of a release.

        Raises:
            ModelOpsError: it is no release id, so it could name any folder.
        """
        if not manifest.RELEASE_ID.fullmatch(release):
            raise ModelOpsError(
                f"{release!r} is not a release id (16 hex digits)",
                where=self.root,
                remedy="playbooks/status.yml lists the releases.",
            )
        return self.releases / release

    def load(self) -> State:
        """Return the state; that of a new target when there is none.

        Raises:
            ModelOpsError: state.json is not usable.
        """
        try:
            state = opener.read_json(self.state_file)
        except FileNotFoundError:
            return fresh_state()
        except ModelOpsError as error:
            raise self._unusable(error.what) from None
        if not isinstance(state, dict) or state.get("schema") != SCHEMA:
            raise self._unusable(f"schema {SCHEMA} is expected")
        if set(fresh_state()) - set(state):
            raise self._unusable("fields are missing")
        config = self.config_path() if state["pending"] else None
        if why := believable.problem(state, config):
            raise self._unusable(why)
        return state

    def config_path(self) -> str | None:
        """Return the path of the configuration that the last activation was of, if it is kept.

        Raises:
            ModelOpsError: it is no path.
        """
        try:
            path = opener.read(self.texts / "path", LONGEST_PATH).decode()
        except FileNotFoundError:
            return None
        except ValueError:
            path = ""
        if not path.isprintable() or os.path.normpath(path) != path or not os.path.isabs(path):
            raise self._unusable(f"{path!r}, kept in {self.texts / 'path'}, is no path")
        return path

    def is_due(self) -> bool:
        """Tell whether an activation stands that nobody confirmed, as far as can be known.

        A state that cannot be believed tells of no commit.
        """
        try:
            state = self.load()
        except ModelOpsError:
            return True
        return bool(state["pending"]) or not state["confirmed"]

    def save(self, state: State) -> None:
        """Write the state, whole or not at all."""
        text = json.dumps(state, indent=1, sort_keys=True, ensure_ascii=False)
        write_atomic(self.state_file, (text + "\n").encode())

    def manifest(self, release: str) -> dict[str, Any]:
        """Return the manifest of a release.

        Raises:
            ModelOpsError: it is not usable, that of another model or release, or not the one that
                the controller knows.
        """
        path = self.folder(release) / manifest.MANIFEST
        listed = manifest.load(path)
        self.require_own(listed, path)
        self._require_bound(listed, release, path)
        return listed

    def is_known(self, release: str) -> bool:
        """Tell whether a release is the one whose manifest the controller gave."""
        return self.known is not None and self.known["release_id"] == release

    def _require_bound(self, listed: Mapping[str, Any], release: str, where: Path) -> None:
        """Refuse a manifest that was changed together with what it lists.

        The folder's name binds the artifacts; the digest of the controller's manifest binds source,
        golden data and recipe, too.
        """
        wanted, found = self.recorded.get(release, []), manifest.digest(listed)
        if self.known and self.is_known(release):
            wanted = [manifest.digest(self.known)]
        why = ""
        if listed["release_id"] != release:
            why = f"the manifest is that of release {listed['release_id']}, the folder of {release}"
        elif wanted and found not in wanted:
            why = f"the manifest has SHA-256 {found}, the one that was made has {wanted[-1]}"
        if why:
            raise ModelOpsError(why, where=where, remedy=TRANSFER_AGAIN)

    def require_own(self, listed: Mapping[str, Any], where: object) -> None:
        """Refuse a manifest whose artifacts or source are not files of this model.

        Raises:
            ModelOpsError: with what it lists instead.
        """
        found = {entry["name"] for entry in listed["artifacts"]}
        graph, data = (path.name for path in self.live)
        if found not in ({graph}, {graph, data}):
            raise ModelOpsError(
                f"the manifest is that of {', '.join(sorted(found))}, not of {graph}",
                where=where,
                remedy=f"Give the manifest of a release of {self.name}.",
            )
        source = {entry["name"] for entry in listed["source"]}
        if self.fp32_graph.name not in source:
            raise ModelOpsError(
                f"the manifest was made from {', '.join(sorted(source))}, and FP32 is"
                f" {self.fp32_graph.name} here",
                where=where,
                remedy=f"Give the manifest of a release that was made from {self.fp32_graph.name}.",
            )

    def staged_problems(self, release: str, verify: bool) -> list[str]:
        """Return what is wrong with a release's artifacts in its own folder, as `whole` does."""
        try:
            entries = self.manifest(release)["artifacts"]
        except ModelOpsError as error:
            return [str(error)]
        return self.whole(self.folder(release), entries, verify)

    def whole(self, folder: Path, entries: list[dict[str, Any]], verify: bool) -> list[str]:
        """Return what is wrong with files in a folder, by size, with `verify` by SHA-256 too."""
        if verify:
            return self.hashed.problems(folder, entries)
        wrong = []
        for entry in entries:
            path = folder / entry["name"]
            if path.is_symlink() or not path.is_file():
                wrong.append(f"{path}: missing or not a regular file")
            elif path.stat().st_size != entry["size"]:
                wrong.append(f"{path}: {path.stat().st_size} bytes instead of {entry['size']}")
        return wrong

    def golden_problems(self, release: str, verify: bool) -> list[str]:
        """Return what is wrong with a release's golden data, which a release need not have."""
        try:
            listed = self.manifest(release)
        except ModelOpsError as error:
            return [str(error)]
        golden = listed.get("golden")
        return self.whole(self.folder(release), [golden], verify) if golden else []

    def live_problems(self, state: State, verify: bool) -> list[str]:
        """Return what is wrong with the live pair that the state names; empty when none is."""
        if state["live"] is None:
            return []
        try:
            entries = self.manifest(state["live"])["artifacts"]
        except ModelOpsError as error:
            return [str(error)]
        return self.whole(self.root, entries, verify)

    def fp32_problems(self, source: list[dict[str, Any]] | None, verify: bool) -> list[str]:
        """Return what is wrong with the FP32 model, the way back of every release.

        Args:
            source: the manifest's entries of the FP32 files that the release was made from; without
                it the graph and the data files that it names must be there, whatever is in them.
        """
        graph = self.fp32_graph.name
        if source:
            return self.whole(self.root, source, verify) or self._source_problems(source)
        files = {graph, *self._data_files(graph)}
        return [
            f"{path}: missing, empty or not a regular file"
            for path in map(self.root.joinpath, sorted(files))
            if path.is_symlink() or not path.is_file() or path.stat().st_size == 0
        ]

    def _source_problems(self, source: list[dict[str, Any]]) -> list[str]:
        """Return in which names a manifest's source differs from what the FP32 graph reads."""
        try:
            files = declared.read(self.fp32_graph).files
        except ModelOpsError:
            return []  # the graph has the right SHA-256, and is read by nothing but the service
        reads = {self.fp32_graph.name, *(Path(name).name for name in files)}
        found = {entry["name"] for entry in source}
        if found == reads:
            return []
        listed, wanted = (", ".join(sorted(each)) for each in (found, reads))
        return [f"the release was made from {listed}, and FP32 is {wanted} here"]

    def _data_files(self, graph: str) -> list[str]:
        """Return the data files of FP32: as its graph says, else as a release's manifest does."""
        with suppress(ModelOpsError):
            return list(declared.read(self.root / graph).files)
        for release in self.staged():
            with suppress(ModelOpsError):
                source = [entry["name"] for entry in self.manifest(release)["source"]]
                if graph in source:
                    return source
        return []

    def staged(self) -> list[str]:
        """Return the ids of the releases whose folder exists."""
        if not self.releases.is_dir():
            return []
        names = sorted(path.name for path in self.releases.iterdir() if path.is_dir())
        return [name for name in names if manifest.RELEASE_ID.fullmatch(name)]

    def _unusable(self, why: str) -> ModelOpsError:
        return ModelOpsError(
            f"the state is not usable: {why}",
            where=self.state_file,
            remedy="Roll back to FP32 (rollback.yml): that puts the broken file aside as"
            " state.json.broken and starts a new one.",
        )


def record(state: State, event: str, release: str, by: str, reason: str = "") -> None:
    """Append to the state's history; the oldest entries fall off."""
    entry = {"at": now(), "by": by, "event": event, "release": release, "reason": reason}
    state["history"] = [*state["history"], entry][-HISTORY_LENGTH:]
