"""What a plan tells the next one: what a weight costs is known when all its readers are planned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

# A weight's key and dimensions, and how many leading ones have a scale for each element, or LAST.
Layer = tuple[str, tuple[int, ...], int]
# What is made of a weight alone: how, the weight's key, its dimensions and more.
Made = tuple[str, ...]


@dataclass(frozen=True)
class Learned:
    """What plans of a model found out.

    Attributes:
        tied: matrices that are also the rows of another node, with the same scales: one copy.
        in_fp32: keys of weights that stay in FP32 for some reader: INT8 would only be added.
        larger: keys of weights whose INT8 layouts take more than the weight itself.
        heavy: keys of weights that take too much memory to unpack at load.
        halved: keys of small weights that take less memory in FP16 than in INT8.
        wide: what products give whose activations take too much memory in INT8.
        shared: what several graphs make of a weight, such as both branches of an If: one is enough.
    """

    tied: frozenset[Layer] = frozenset()
    in_fp32: frozenset[str] = frozenset()
    larger: frozenset[str] = frozenset()
    shared: frozenset[Made] = frozenset()
    heavy: frozenset[str] = frozenset()
    wide: frozenset[str] = frozenset()
    halved: frozenset[str] = frozenset()

    def __or__(self, other: Learned) -> Learned:
        return Learned(
            self.tied | other.tied,
            self.in_fp32 | other.in_fp32,
            self.larger | other.larger,
            self.shared | other.shared,
            self.heavy | other.heavy,
            self.wide | other.wide,
            self.halved | other.halved,
        )

    def keeps(self, key: str) -> bool:
        """Tell whether a weight stays in FP32, since INT8 would save nothing or harm."""
        return key in self.in_fp32 or key in self.larger or key in self.heavy


NOTHING = Learned()


class Learning(Protocol):
    """A plan: it is made with what earlier ones learned."""

    @property
    def learned(self) -> Learned: ...


P = TypeVar("P", bound=Learning)


def settled(made: Callable[[Learned], P]) -> P:
    """Plan until a plan learns nothing new; what is learned only grows, so that this ends."""
    learned = NOTHING
    while (plan := made(learned)).learned != learned:
        learned = plan.learned
    return plan
