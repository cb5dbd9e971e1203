"""Ask an index of advisories about every pinned package: `make audit`. It runs in .venv/tools.

What is found fails, but for what requirements/advisories.txt lets pass until a day. Where no index
answers, or does not know a package, that is said: nothing is passed over in silence.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
TIMEOUT_S = 20


class Allowed(NamedTuple):
    """An advisory that is let pass until a day."""

    until: datetime.date
    why: str


def pins(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return name and version of every package in the texts of requirements/*.txt."""
    rows = (line.split()[0] for text in texts for line in text.splitlines() if "==" in line)
    return sorted({tuple(row.partition(";")[0].split("==")) for row in rows})


def allowed(text: str) -> dict[str, Allowed]:
    """Read the advisories that are let pass.

    Raises:
        ValueError: a line lacks the day or the reason.
    """
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, day, why = line.split(maxsplit=2)
            found[name] = Allowed(datetime.date.fromisoformat(day), why)
    return found


def judge(
    packages: Iterable[tuple[str, str]],
    ask: Callable[[str, str], tuple[str, list[Any]]],
    passes: dict[str, Allowed],
    today: datetime.date,
) -> tuple[list[str], list[str]]:
    """Ask about each package; return what fails, and what is only told.

    Args:
        ask: returns why the index does not know a package, or an empty text, and its advisories.
    """
    fails, told, met = [], [], set()
    for name, version in packages:
        unknown, advisories = ask(name, version)
        if unknown:
            told.append(f"{name} {version} was not judged: {unknown}")
        for advisory in advisories:
            names = {advisory.id, *advisory.aliases}
            let = next((passes[each] for each in sorted(names) if each in passes), None)
            met |= names
            mended = ", ".join(map(str, advisory.fix_versions)) or "no version"
            line = f"{name} {version}: {advisory.id} (mended by {mended})"
            if let and today < let.until:
                told.append(f"{line}, let pass until {let.until}: {let.why}")
            else:
                fails.append(f"{line}{f', was let pass until {let.until}' if let else ''}")
    told += [f"{name} is let pass, and nothing has it" for name in sorted(set(passes) - met)]
    return fails, told


def main() -> int:
    """Return 0 where nothing fails, or nobody could be asked."""
    from packaging.version import Version
    from pip_audit._service import (
        ConnectionError as NoAnswer,
    )
    from pip_audit._service import (
        PyPIService,
        ResolvedDependency,
        ServiceError,
        SkippedDependency,
    )

    service = PyPIService(None, TIMEOUT_S)

    def ask(name: str, version: str) -> tuple[str, list[Any]]:
        known, advisories = service.query(ResolvedDependency(name, Version(version)))
        why = known.skip_reason if isinstance(known, SkippedDependency) else ""
        return why, list(advisories)

    packages = pins(path.read_text("utf-8") for path in sorted(REQUIREMENTS.glob("*.txt")))
    passes = allowed((REQUIREMENTS / "advisories.txt").read_text("utf-8"))
    try:
        fails, told = judge(packages, ask, passes, datetime.datetime.now(datetime.UTC).date())
    except (NoAnswer, ServiceError) as error:
        print(f"SKIPPED: no index of advisories answers here ({error}). Nothing was judged.")
        return 0
    print("\n".join([*told, *fails, f"{len(packages)} packages, {len(fails)} with advisories"]))
    if unjudged := sum("was not judged" in line for line in told):
        print(f"SKIPPED: {unjudged} of {len(packages)}: this index has no advisories of them.")
    return 1 if fails else 0


if __name__ == "__main__":
    sys.exit(main())
