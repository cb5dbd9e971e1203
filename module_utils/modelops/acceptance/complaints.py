"""Complaints of people about a service: a CSV file on the controller. Standard library only."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

from ..base.errors import ModelOpsError
from ..base.host_text import line

DATE, TEXT, HOST = "date", "text", "host"
MOST = 10_000
REMEDY = (
    "Give a first line `date,host,text` and a line for each complaint: 2026-11-29 or"
    " 2026-11-29T14:30, the target or nothing, and what was said."
)


def parse(content: str) -> list[dict[str, Any]]:
    """Return the complaints of a file with the columns `date`, `text` and, if wanted, `host`.

    Returns:
        `at` (seconds of the epoch; a date without a zone is UTC), `host` (empty: of every target)
        and `text`.

    Raises:
        ModelOpsError: it has other columns, or lines that are none: all of them are named.
    """
    reader = csv.DictReader(io.StringIO(content.removeprefix("\ufeff")), restval="")
    columns = {str(name).strip() for name in reader.fieldnames or []}
    if not {DATE, TEXT} <= columns <= {DATE, TEXT, HOST}:
        raise _wrong(f"its columns are {', '.join(sorted(columns)) or 'none'}")
    found: list[dict[str, Any]] = []
    wrong = []
    for number, row in enumerate(reader, 2):
        fields = {str(name).strip(): value for name, value in row.items()}
        at = _moment(fields[DATE])
        if at is None or None in row or not isinstance(fields[TEXT], str):
            wrong.append(f"line {number}: {line(fields[DATE])!r}")
        elif len(found) < MOST:
            host = line(fields.get(HOST) or "")
            found.append({"at": at, "host": host, "text": line(fields[TEXT])[:500]})
    if wrong:
        raise _wrong("; ".join(wrong[:20]))
    return found


def _moment(text: str) -> float | None:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _wrong(what: str) -> ModelOpsError:
    return ModelOpsError(what, where="acceptance_complaints_file", remedy=REMEDY)
