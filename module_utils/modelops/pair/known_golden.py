"""Which golden data the controller knows from when they were made. Standard library only.

They are kept on the controller, where the builder cannot write, in one file for each model: a line
for golden data, with their SHA-256 and those of the source that gave them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..base.errors import ModelOpsError
from . import manifest


def line(golden: Mapping[str, Any], source: Iterable[Mapping[str, Any]]) -> str:
    """Return the line of golden data.

    Args:
        golden: their entry (name, size, sha256).
        source: the entries of the FP32 files.

    Raises:
        ModelOpsError: one of them is no entry of a file.
    """
    entries = [golden, *sorted(source, key=lambda entry: str(entry.get("name")))]
    if not all(map(manifest.is_entry, entries)):
        raise ModelOpsError(
            "golden data or source are no entries of files",
            where="known golden data",
            remedy="Run the quantize phase again.",
        )
    return " ".join(entry["sha256"] for entry in entries)


def of(text: str, source: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the SHA-256 of all golden data that a file's text knows of a source.

    Raises:
        ModelOpsError: as `line`.
    """
    stand_in = {"name": "golden.npz", "size": 0, "sha256": "0" * 64}
    of_source = line(stand_in, source).partition(" ")[2]
    rows = (row.partition(" ") for row in text.splitlines())
    return [sha256 for sha256, _, rest in rows if rest == of_source]
