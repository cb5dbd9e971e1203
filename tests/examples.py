"""How much a test tries: all there is in CI, a part of it at a developer's desk.

Of the examples of hypothesis a tenth, of a long list of cases the first few.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings

Case = TypeVar("Case")

# No test judges seconds: these machines are shared.
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ALL, FEW = 100, 10
settings.register_profile("ci", SHARED, max_examples=ALL)
# To explain a failure takes longer than to find it.
settings.register_profile("dev", SHARED, max_examples=FEW, phases=set(Phase) - {Phase.explain})


def profile() -> str:
    """The profile of this machine: the one that is named, `ci` where CI is set, else `dev`."""
    return os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")


def whole() -> bool:
    """Tell whether the profile leaves nothing out."""
    return settings.default.max_examples == ALL


def some(cases: Sequence[Case], few: int) -> Sequence[Case]:
    """A test's own list of cases: all of them, or in the profile dev the first `few`."""
    return cases if whole() else cases[:few]


def examples(number: int) -> int:
    """The part of a test's own number of examples that the profile leaves, 5 at least."""
    return max(5, number * settings.default.max_examples // ALL)
