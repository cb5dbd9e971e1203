"""What a service understood of a set of recordings, held against what was said.

Runs on the controller, which has jiwer for the word error rate; all else is the standard library's.
"""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..base.errors import ModelOpsError
from ..base.host_text import line

Z_95 = 1.96  # of the normal distribution: 95 % lie within so many deviations
MOST_LABELS = 20
# What is no part of a word: not a letter, a digit or a mark; an apostrophe parts none in Spanish.
_BETWEEN = re.compile(r"[^\w]+|_+")


def figures(
    answers: Sequence[Mapping[str, str]], transcripts: str, listeners: str = ""
) -> dict[str, Any]:
    """Return the figures of an evaluation set.

    A recording without an answer counts: as one of which nothing was understood.

    Args:
        answers: see questions.ask_all.
        transcripts: a CSV text with the columns `file`, `text` and, if wanted, `emotion`.
        listeners: a CSV text with the columns `file`, `listener` and `score`, 1 to 5 (ITU-T P.800).

    Returns:
        `recordings`, `silent` (those without an answer), `wer` (0 to 1, and above), `emotions` (how
        many have a label), `emotion_accuracy` (0 to 1), `confusion` (rows: what it was, what was
        said, how often), `mos` (value, low, high: 95 % of the mean) and `scores`. What is not
        known is None.

    Raises:
        ModelOpsError: a list is none, jiwer is missing, or recordings and transcripts differ.
    """
    wanted = _table(transcripts, ("file", "text"), ("emotion",), "transcripts.csv")
    said = {str(one["file"]): one for one in answers}
    names = [row["file"] for row in wanted]
    if sorted(names) != sorted(said):
        both = sorted(set(names) ^ set(said)) or sorted(n for n in names if names.count(n) > 1)
        raise _wrong("transcripts.csv", f"recordings and lines differ: {', '.join(both[:20])}")
    return {
        "recordings": len(wanted),
        "silent": sum(bool(one["problem"]) for one in answers),
        "wer": _wer(wanted, said),
        **_emotions([row for row in wanted if row["emotion"]], said),
        **_opinion(_table(listeners, ("file", "listener", "score"), (), "listeners.csv", True)),
    }


def normal(text: str) -> str:
    """Return the words of a Spanish text as they count: small, without signs, accents as they are.

    ¿Qué? and que differ; Unicode writes an accent in two ways, which do not.
    """
    return " ".join(_BETWEEN.sub(" ", unicodedata.normalize("NFC", text).casefold()).split())


def _wer(wanted: Iterable[Mapping[str, str]], said: Mapping[str, Mapping[str, str]]) -> float:
    """Return the word error rate of all recordings together (jiwer.wer)."""
    try:
        import jiwer
    except ImportError:
        raise ModelOpsError(
            "the controller lacks jiwer", remedy="Run `make .venv/project`."
        ) from None
    pairs = [(normal(row["text"]), normal(said[row["file"]]["text"])) for row in wanted]
    if empty := [row["file"] for row, (text, _) in zip(wanted, pairs, strict=True) if not text]:
        raise _wrong("transcripts.csv", f"no words: {', '.join(empty[:20])}")
    return float(jiwer.wer([one[0] for one in pairs], [one[1] for one in pairs]))


def _emotions(
    labelled: Sequence[Mapping[str, str]], said: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Return how often the label was right, and what was taken for what."""
    pairs = Counter((normal(r["emotion"]), normal(said[r["file"]]["emotion"])) for r in labelled)
    if len({label for pair in pairs for label in pair}) > 2 * MOST_LABELS:
        raise _wrong("transcripts.csv", f"more than {MOST_LABELS} emotions")
    right = sum(count for (was, told), count in pairs.items() if was == told)
    return {
        "emotions": len(labelled),
        "emotion_accuracy": right / len(labelled) if labelled else None,
        "confusion": [[was, told or "nothing", n] for (was, told), n in sorted(pairs.items())],
    }


def _opinion(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the mean opinion score, with the bounds within which 95 % of such means lie."""
    wrong, scores = [], []
    for number, row in enumerate(rows, 2):
        try:
            score = float(row["score"])
        except ValueError:
            score = math.nan
        if 1 <= score <= 5:
            scores.append(score)
        else:
            wrong.append(f"line {number}: {line(row['score'])!r} is no score from 1 to 5")
    if wrong:
        raise _wrong("listeners.csv", "; ".join(wrong[:20]))
    if len(scores) < 2:
        return {"scores": len(scores), "mos": None}
    mean = statistics.fmean(scores)
    half = Z_95 * statistics.stdev(scores) / math.sqrt(len(scores))
    return {"scores": len(scores), "mos": {"value": mean, "low": mean - half, "high": mean + half}}


def _table(
    content: str, must: tuple[str, ...], may: tuple[str, ...], where: str, empty: bool = False
) -> list[dict[str, str]]:
    """Return the rows of a CSV text, each with all of the columns."""
    if not content and empty:
        return []
    reader = csv.DictReader(io.StringIO(content.removeprefix("\ufeff")), restval="")
    columns = set(reader.fieldnames or [])
    if not set(must) <= columns <= {*must, *may}:
        raise _wrong(where, f"its columns are {', '.join(sorted(columns)) or 'none'}")
    rows = list(reader)
    if wrong := [str(number) for number, row in enumerate(rows, 2) if None in row]:
        raise _wrong(where, f"too many fields in the lines {', '.join(wrong[:20])}")
    return [{name: (row.get(name) or "").strip() for name in (*must, *may)} for row in rows]


def _wrong(where: str, what: str) -> ModelOpsError:
    return ModelOpsError(
        what,
        where=where,
        remedy="Give transcripts.csv the columns file,text,emotion, a line for each recording, and"
        " listeners.csv file,listener,score (docs/acceptance.md).",
    )
