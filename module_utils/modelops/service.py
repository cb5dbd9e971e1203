"""A systemd service: whether it is up, answers, and stays so. Standard library only."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import answers
from .errors import ModelOpsError

POLL_S = 0.2
PROBE_TIMEOUT_S = 5.0
JOURNAL_LINES = 25
LONGEST_ANSWER = 1 << 20  # bytes of an answer that are read
SHOWN = 300  # characters of it that a message shows
# systemd counts restarts for as long as nobody resets them: older ones say nothing of today.
RECENT_S = 60.0
_FIELDS = {
    "LoadState": "load", "ActiveState": "active", "SubState": "sub", "Result": "result",
    "NRestarts": "restarts", "InvocationID": "invocation", "MainPID": "pid",
    "ActiveEnterTimestamp": "since", "ActiveEnterTimestampMonotonic": "since_us",
}  # fmt: skip


class Unit(NamedTuple):
    """What systemd says of a unit; `invocation` changes with every start."""

    load: str
    active: str
    sub: str
    result: str
    restarts: int
    invocation: str
    pid: int
    since: str
    since_us: int = 0  # on the clock of time.monotonic(); 0 before the first start


def look(name: str) -> Unit:
    """Ask systemd for the state of a unit.

    Raises:
        ModelOpsError: there is no systemd to ask.
    """
    done = _run("systemctl", "show", name, "--property", ",".join(_FIELDS))
    if done.returncode:
        raise ModelOpsError(
            f"systemd does not answer ({done.stderr.strip()})",
            where=name,
            remedy="Set sarai_service_manager to what runs the service on this host.",
        )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    values: dict[str, Any] = {field: found.get(key, "") for key, field in _FIELDS.items()}
    for number in ("restarts", "pid", "since_us"):
        values[number] = int(values[number] or 0)
    return Unit(**values)


def journal(name: str, invocation: str, lines: int = JOURNAL_LINES) -> str:
    """Return the last lines that the unit wrote, of this start where they can be told apart."""
    for chosen in ([f"_SYSTEMD_INVOCATION_ID={invocation}"], ["--unit", name]):
        done = _run("journalctl", "--no-pager", "--output", "short", "--lines", str(lines), *chosen)
        text = done.stdout.strip()
        if text and "-- No entries --" not in text:
            return text
    return "(the journal holds nothing that this user may read)"


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
            return _unexpected(url, answer.read(LONGEST_ANSWER), expect) if expect else ""
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except (OSError, ValueError) as error:
        return f"{url} does not answer ({getattr(error, 'reason', error)})"


def _unexpected(url: str, body: bytes, expect: Mapping[str, Any]) -> str:
    said = " ".join(body.decode(errors="replace").split())
    said = said if len(said) <= SHOWN else f"{said[:SHOWN]}..."
    try:
        document = json.loads(body)
    except ValueError:
        return f"{url} answers no JSON, so sarai_service_health_expect cannot be seen: {said}"
    wrong = []
    for field, wanted in expect.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        try:
            found = answers.at(document, field)
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


def state(name: str, url: str, expect: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return how the service is right now, without waiting.

    Returns:
        `unit` (see Unit), `healthy`, `problem`, and `rss_bytes` of its main process.
    """
    unit = look(name)
    problem = _problem(name, unit) or (probe(url, expect) if url else "")
    if unit.restarts and time.monotonic() - unit.since_us / 1e6 < RECENT_S:
        problem = _died(unit, unit.restarts)
    return {
        "unit": unit._asdict(),
        "healthy": not problem,
        "problem": problem,
        "rss_bytes": _rss_bytes(unit.pid),
    }


def wait_healthy(
    name: str,
    url: str,
    hold_s: float,
    limit_s: float,
    expect: Mapping[str, Any] | None = None,
    see: Callable[[str, str], tuple[Unit, str]] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Wait until the service is up and answers, and has been so for `hold_s` seconds on end.

    Args:
        url: what answers 200 when the service is healthy; empty asks systemd alone.
        expect: what that answer must hold; see probe.
        limit_s: seconds until it must have become healthy first.
        see: looks at the unit and its health (tests).

    Returns:
        What `state` returns, `healthy_after_s` and `held_s`.

    Raises:
        ModelOpsError: it did not start, died, or does not answer; with its journal.
    """
    see = see or partial(_see, expect=expect or {})
    started = clock()
    since, invocation = None, ""
    before: int | None = None  # a restart by hand does not always reset systemd's count
    while True:
        now = clock()
        unit, problem = see(name, url)
        if before is None:
            before = unit.restarts - (unit.sub == "auto-restart")
        if unit.restarts > before:
            problem = _died(unit, unit.restarts - before)
            break
        if unit.load == "not-found" or unit.active == "failed":
            problem = _problem(name, unit)
            break
        if problem:
            if since is not None:
                problem = f"it was healthy for {now - since:.1f} s, then {problem}"
                break
            if now - started >= limit_s:
                problem = f"it is not healthy after {limit_s:g} s: {problem}"
                break
        elif since is None or unit.invocation != invocation:
            since, invocation = now, unit.invocation
        if not problem and since is not None and now - since >= hold_s:
            found = {"unit": unit._asdict(), "healthy": True, "problem": ""}
            times = {"healthy_after_s": round(since - started, 2), "held_s": round(now - since, 2)}
            return {**found, **times, "rss_bytes": _rss_bytes(unit.pid)}
        sleep(POLL_S)
    text = journal(name, unit.invocation)
    raise ModelOpsError(
        f"the service is not healthy: {problem}",
        where=name,
        remedy=f"Its journal says:\n{text}",
        journal=text,
        unit=unit._asdict(),
    )


def _see(name: str, url: str, expect: Mapping[str, Any]) -> tuple[Unit, str]:
    unit = look(name)
    return unit, _problem(name, unit) or (probe(url, expect) if url else "")


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


def _rss_bytes(pid: int) -> int | None:
    path = Path(f"/proc/{pid}/status")
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", path.read_text()) if pid else None
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - fixed programs, no shell
            command, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
