"""The files of the FP32 model: their hashes, and that nothing changes them while they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.files import sha256_file
from ..model.locate import unreadable


class Source:
    """The graph and its data files.

    Args:
        graph: the graph file.
        data: its data files; the graph may be among them.

    Attributes:
        paths: the graph first.
    """

    def __init__(self, graph: Path, data: set[Path]) -> None:
        self.graph = graph
        self.paths = [graph, *sorted(data - {graph})]
        self._before = self._fingerprints()

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    def entries(self, hashes: Mapping[Path, str]) -> list[dict[str, Any]]:
        """Return the entries of the manifest; a hash that is not known is None there."""
        return [entry(path, path.stat().st_size, hashes.get(path)) for path in self.paths]

    def require_unchanged(self) -> None:
        """Refuse a source that was written to since it was opened.

        Raises:
            ModelOpsError: naming the file.
        """
        for path, fingerprint in self._fingerprints().items():
            if fingerprint != self._before[path]:
                raise ModelOpsError(
                    "the source changed while it was read",
                    where=path,
                    remedy="Let nothing write to the model during the run, and run again.",
                )

    def _fingerprints(self) -> dict[Path, tuple[int, ...]]:
        stats = {path: path.stat() for path in self.paths}
        return {p: (s.st_size, s.st_mtime_ns, s.st_ino) for p, s in stats.items()}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of the source.

    Raises:
        ModelOpsError: it cannot be read to its end.
    """
    try:
        return sha256_file(path)
    except OSError as error:
        raise unreadable(path, error) from None


def entry(path: Path, size: int, sha256: str | None) -> dict[str, Any]:
    """Return what a manifest says of a file: `size` in bytes."""
    return {"path": str(path), "name": path.name, "size": size, "sha256": sha256}
