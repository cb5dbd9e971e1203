"""A service: whether it is up, answers, stays so, and what it serves. Standard library only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..base import memory, opener
from ..base.errors import ModelOpsError
from ..base.hidden import masked
from . import processes, served, service_answer
from .opens import Watch
from .units import Unit

POLL_S = 0.2
SETTLE_S = 1.0
PROBE_TIMEOUT_S = 5.0
SHOWN = 300  # characters of it that a message shows
# systemd counts restarts for as long as nobody resets them: older ones say nothing of today.
RECENT_S = 60.0


class Manager(Protocol):
    """What runs a service: units.Systemd, commands.Commands."""

    name: str

    def look(self) -> Unit: ...

    def restart(self, limit_s: float) -> None: ...

    def told(self, invocation: str) -> str: ...

    def processes(self, unit: Unit) -> set[int]: ...


Models = Mapping[str, list[Path]]
See = Callable[[], tuple[Unit, str]]


def probe(url: str, expect: Mapping[str, Any] | None = None) -> str:
    """Ask the service for its health; return what is wrong, or an empty text.

    Args:
        expect: what the JSON of the answer must hold: field (see answers.at) -> value, or a list of
            the values that are right.
    """
    # No proxy: the address is this very host's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PROBE_TIMEOUT_S) as answer:
            if answer.status != 200:
                return f"{url} answers {answer.status}"
            if not expect:
                return ""
            return _unexpected(url, service_answer.whole(answer, PROBE_TIMEOUT_S), expect)
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except (OSError, ValueError) as error:
        return f"{url} does not answer ({getattr(error, 'reason', error)})"


def _unexpected(url: str, body: bytes, expect: Mapping[str, Any]) -> str:
    said = masked(" ".join(body.decode(errors="replace").split()))
    said = said if len(said) <= SHOWN else f"{said[:SHOWN]}..."
    try:
        document = opener.parsed(body)
    except ValueError:
        return f"{url} answers no JSON, so sarai_service_health_expect cannot be seen: {said}"
    wrong = []
    for field, wanted in expect.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        try:
            found = service_answer.at(document, field)
        except LookupError:
            wrong.append(f"it has no {field}")
            continue
        if not any(_same(found, value) for value in values):
            listed = " or ".join(json.dumps(value) for value in values)
            wrong.append(f"{field} is {json.dumps(found)}, not {listed}")
    return f"{url} is not as expected: {'; '.join(wrong)}. It said: {said}" if wrong else ""


def _same(found: Any, wanted: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


def see(manager: Manager, url: str, expect: Mapping[str, Any] | None) -> tuple[Unit, str]:
    """Return how the service is, and what is wrong with it or an empty text."""
    unit = manager.look()
    return unit, _problem(manager.name, unit) or (probe(url, expect) if url else "")


def state(
    manager: Manager,
    url: str,
    expect: Mapping[str, Any] | None = None,
    models: Models | None = None,
) -> dict[str, Any]:
    """Return how the service is right now, without waiting.

    Returns:
        `unit` (see Unit), `healthy`, `problem`, `rss_bytes` of its processes, and `served` (see
        served.judge).
    """
    unit, problem = see(manager, url, expect)
    if unit.restarts and time.monotonic() - unit.since_us / 1e6 < RECENT_S:
        problem = _died(unit, unit.restarts)
    healthy = {"unit": unit._asdict(), "healthy": not problem, "problem": problem}
    return {**healthy, **_processes(manager, unit, models or {}, None)}


def restart(
    manager: Manager,
    url: str,
    *,
    hold_s: float,
    limit_s: float,
    expect: Mapping[str, Any] | None = None,
    models: Models | None = None,
    question: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Restart the service, wait until it is healthy, and see what it serves.

    Args:
        question: `url`, `body` and `timeout_s` of what it is asked once, so that a service that
            loads its model with the first question has loaded it. What it answers is judged later.

    Returns:
        What `wait_healthy` returns, and `served`.

    Raises:
        ModelOpsError: it does not become healthy, or another process answers in its place.
    """
    models = models or {}
    if url and not manager.processes(manager.look()) and not probe(url):
        raise ModelOpsError(
            f"{url} is answered by a process that is not known to be the service's",
            where=manager.name,
            remedy="Correct sarai_service_name, or give sarai_service_commands the pid_file or a"
            " status command that prints its process id.",
        )
    with closing(Watch(path for paths in models.values() for path in paths)) as watch:
        manager.restart(limit_s)
        found = wait_healthy(partial(see, manager, url, expect), manager, hold_s, limit_s)
        if question:
            service_answer.wake(question["url"], question.get("body") or {}, question["timeout_s"])
        opened = watch.opened() if watch.works else None
    return {**found, **_processes(manager, Unit(**found["unit"]), models, opened)}


def wait_healthy(
    look: See,
    manager: Manager,
    hold_s: float,
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Wait until the service is up and answers, and has been so for `hold_s` seconds on end.

    Args:
        look: sees how it is (see `see`).
        limit_s: seconds until it must have become healthy first.

    Returns:
        `unit`, `healthy`, `problem`, `healthy_after_s` and `held_s`.

    Raises:
        ModelOpsError: it did not start, died, or does not answer; with what it wrote.
    """
    started, health = clock(), _Health(manager.name)
    while True:
        now = clock()
        unit, problem = look()
        over = health.over(unit)
        if not over and problem and health.since is not None:
            # A process that dies stops answering before the manager knows that it is dead.
            sleep(SETTLE_S)
            unit, _ = look()
            problem = health.death(unit) or problem
            over = f"it was healthy for {now - health.since:.1f} s, then {problem}"
        elif not over and problem and now - started >= limit_s:
            over = f"it is not healthy after {limit_s:g} s: {problem}"
        if over:
            raise _not_healthy(manager, unit, over)
        if not problem:
            since = health.note(now, unit)
            if now - since >= hold_s:
                found = {"unit": unit._asdict(), "healthy": True, "problem": ""}
                after, held = round(since - started, 2), round(now - since, 2)
                return {**found, "healthy_after_s": after, "held_s": held}
        sleep(POLL_S)


class _Health:
    """What the looks at a service told so far.

    Attributes:
        since: when it was seen healthy first, None while it was not.
    """

    def __init__(self, name: str) -> None:
        self.since: float | None = None
        self._name, self._invocation = name, ""
        self._before: int | None = None  # a restart by hand does not always reset systemd's count

    def over(self, unit: Unit) -> str:
        """Return why it need not be waited for any more, or nothing."""
        if self._before is None:
            self._before = unit.restarts - (unit.sub == "auto-restart")
        if unit.restarts > self._before:
            return _died(unit, unit.restarts - self._before)
        if unit.load == "not-found" or unit.active == "failed":
            return _problem(self._name, unit)
        return ""

    def death(self, unit: Unit) -> str:
        """Return that it died since it was first looked at, or nothing."""
        times = unit.restarts - (self._before or 0)
        return _died(unit, max(1, times)) if times > 0 or unit.active == "failed" else ""

    def note(self, now: float, unit: Unit) -> float:
        """Note that it is healthy, and return since when: another process begins anew."""
        if self.since is None or unit.invocation != self._invocation:
            self.since, self._invocation = now, unit.invocation
        return self.since


def _not_healthy(manager: Manager, unit: Unit, problem: str) -> ModelOpsError:
    text = manager.told(unit.invocation)
    return ModelOpsError(
        f"the service is not healthy: {problem}",
        where=manager.name,
        remedy=text,
        journal=text,
        unit=unit._asdict(),
    )


def _processes(
    manager: Manager, unit: Unit, models: Models, opened: set[Path] | None
) -> dict[str, Any]:
    pids = manager.processes(unit)
    seen = served.look(pids, models, opened)
    return {
        "rss_bytes": processes.memory_bytes(pids),
        "host_memory": memory.of_host(),
        "served": served.judge(seen),
    }


def _problem(name: str, unit: Unit) -> str:
    if unit.load == "not-found":
        return f"systemd knows no unit {name}"
    if unit.active == "failed" and unit.restarts:
        return f"it died {unit.restarts + 1} times, and systemd gave up (result {unit.result})"
    if unit.active != "active":
        return f"it is {unit.active} ({unit.sub}, result {unit.result})"
    return ""


def _died(unit: Unit, times: int) -> str:
    return f"it died and was started again, {times} times (now {unit.active})"
