"""How many examples hypothesis tries: all of them in CI, a tenth at a developer's desk."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# No test judges seconds: these machines are shared.
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ALL, FEW = 100, 10
settings.register_profile("ci", SHARED, max_examples=ALL)
# To explain a failure takes longer than to find it.
settings.register_profile("dev", SHARED, max_examples=FEW, phases=set(Phase) - {Phase.explain})


def profile() -> str:
    """The profile of this machine: the one that is named, `ci` where CI is set, else `dev`."""
    return os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")


def examples(number: int) -> int:
    """The part of a test's own number of examples that the profile leaves, 5 at least."""
    return max(5, number * settings.default.max_examples // ALL)
