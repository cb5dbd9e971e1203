"""The one exception that every part raises for a cause it can name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ModelOpsError(Exception):
    """A failure with its place, its cause and what to do now.

    Args:
        what: what is wrong, one sentence without a full stop.
        where: the file, node or host that it is about.
        remedy: what the reader can do now.
        facts: further values for machines (sizes, hashes); they land in the module's result.
    """

    def __init__(self, what: str, *, where: object = "", remedy: str = "", **facts: Any) -> None:
        super().__init__(what)
        self.what = what
        self.where = str(where)
        self.remedy = remedy
        self.facts = facts

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.remedy}" if self.remedy else text


def raise_all(problems: Sequence[ModelOpsError]) -> None:
    """Raise the problems found, all at once.

    Raises:
        ModelOpsError: the problem itself when there is one, otherwise one that lists every problem
            and carries their texts as the fact `problems`.
    """
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    texts = [str(problem) for problem in problems]
    raise ModelOpsError(
        f"{len(texts)} problems: " + "; ".join(f"({i}) {text}" for i, text in enumerate(texts, 1)),
        problems=texts,
    )
