"""Take one sample of a service: its memory, its deaths, how fast it answers, its own figures.

    modelops-sampler < SETTINGS

A timer of systemd calls it (roles/acceptance). SETTINGS is JSON that root alone writes: `unit` the
service's, `own` the sampler's, `folder` of the samples, `state` the file that names the release in
service, `keep_files`, `question` ({url, body, vary, timeout_s}) and `metrics` ({url, latency,
cache_hits, cache_misses, cache_hit_rate}). Both may be empty.

A sample is a line of JSON in the newest file of a ring. Times are seconds, memory is bytes. It
holds numbers and states alone: no question, no answer, no text of the journal. Standard library
only, and one file, so that whoever installs it can read what it does.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

SCHEMA = 1
PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
# memory.stat of cgroup v2 and of v1: pages without a file, and pages of files that are mapped.
MEMORY = (("", "anon", "file_mapped"), ("memory", "total_rss", "total_mapped_file"))
HIERARCHIES = ("", "systemd", "unified", "memory")
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
# sd-messages.h: SD_MESSAGE_UNIT_FAILURE_RESULT and SD_MESSAGE_UNIT_OUT_OF_MEMORY.
FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
OUT_OF_MEMORY = "fe6faa94e7774663a0da52717891d8ef"
MOST_ENTRIES = 2000  # of the journal in one sample; the next sample goes on behind them
LONGEST_ENTRY = 64 << 10  # bytes
CALL_LIMIT_S = 20.0
MOST_BUCKETS = 40
LONGEST_ANSWER, LONGEST_METRICS, LONGEST_STATE = 16 << 20, 1 << 20, 1 << 20  # bytes
BOOT = re.compile(r";b=([0-9a-f]{32});")
RELEASE = re.compile(r"fp32|[0-9a-f]{16}")
# A file of the ring ends with a day of samples or with so many bytes; the ring is a count of files.
# So a clock that jumps removes nothing.
FILE = re.compile(r"samples-([0-9]{8})\.jsonl")
FILE_S = 86400
FILE_BYTES = 4 << 20
LONGEST_LINE = 16 << 10
# A line of Prometheus' text format: name, labels, value.
METRIC = re.compile(r"([A-Za-z_:][\w:]*)\s*(?:\{(.*)\})?\s+(\S+)(?:\s+-?[0-9]+)?\s*")
LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')

Json = dict[str, Any]


def main() -> int:
    """Take a sample; the exit code is 0 when it was written."""
    os.umask(0o027)
    settings = json.load(sys.stdin)
    folder = Path(settings["folder"])
    append(folder, take(settings, last(folder)), int(settings["keep_files"]))
    return 0


def take(settings: Mapping[str, Any], before: Mapping[str, Any]) -> Json:
    """Return a sample. What could not be seen is null.

    Args:
        before: the sample before this one; empty for the first.
    """
    told = show(settings["unit"])
    deaths, kills, cursor = journal(settings["unit"], settings["own"], before.get("cursor") or "")
    latency_s, answer = ask(settings.get("question") or {})
    return {
        "v": SCHEMA,
        "at": round(time.time(), 3),
        "boot": boot(cursor),
        "release": release(Path(settings["state"])),
        "active": told.get("ActiveState") == "active",
        "restarts": number(told.get("NRestarts")),
        "memory_bytes": memory(told.get("ControlGroup", ""), number(told.get("MainPID")) or 0),
        "deaths": deaths,
        "out_of_memory": kills,
        "latency_s": latency_s,
        "answer": answer,
        "fresh": bool((settings.get("question") or {}).get("vary")),
        "metrics": metrics(settings.get("metrics") or {}),
        "cursor": cursor,
    }


def number(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else None


def boot(cursor: str) -> str:
    """Return the boot, as the journal names it: in a container /proc may tell the host's."""
    found = BOOT.search(cursor)
    return found[1] if found else (PROC / "sys/kernel/random/boot_id").read_text().strip()


def release(path: Path) -> str:
    """Return the release that the target's state names; empty where it cannot be read."""
    try:
        with path.open("rb") as handle:
            active = json.loads(handle.read(LONGEST_STATE)).get("active")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return active if isinstance(active, str) and RELEASE.fullmatch(active) else ""


# ------------------------------------------------------------------ systemd


def show(unit: str) -> dict[str, str]:
    """Return what systemd says of a unit; empty where it does not answer."""
    fields = "ActiveState,NRestarts,ControlGroup,MainPID"
    try:
        done = subprocess.run(  # noqa: S603 - root named the unit
            ["/usr/bin/systemctl", "show", unit, "--property", fields],
            env=CLEAN, timeout=CALL_LIMIT_S, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def memory(group: str, pid: int) -> int | None:
    """Return the memory of a unit in bytes.

    That is its cgroup's (pages without a file, and mapped pages of files), or the resident memory
    of its largest process where that is more: a page of a file is charged to whoever read it first
    (Documentation/admin-guide/cgroup-v2.rst, "Memory Ownership"), which may be another unit.
    """
    found = [] if not group.strip("/") else [cgroup(group, *fields) for fields in MEMORY]
    found += [resident(one) for one in {pid, *processes(group)} - {0}]
    return max((size for size in found if size is not None), default=None)


def cgroup(group: str, hierarchy: str, anonymous: str, mapped: str) -> int | None:
    try:
        text = (CGROUPS / hierarchy / group.strip("/") / "memory.stat").read_text()
    except OSError:
        return None
    stat = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
    return int(stat[anonymous]) + int(stat[mapped]) if {anonymous, mapped} <= set(stat) else None


def processes(group: str) -> set[int]:
    found: set[int] = set()
    for hierarchy in HIERARCHIES if group.strip("/") else ():
        for path in (CGROUPS / hierarchy / group.strip("/")).rglob("cgroup.procs"):
            with suppress(OSError):
                found.update(map(int, path.read_text().split()))
    return found


def resident(pid: int) -> int | None:
    """Return VmRSS of a process (proc_pid_status(5)) in bytes."""
    with suppress(OSError, ValueError, IndexError):
        for line in (PROC / str(pid) / "status").read_text(errors="replace").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    return None


def journal(unit: str, own: str, cursor: str) -> tuple[dict[str, int] | None, int | None, str]:
    """Return how often a unit died behind a cursor, by systemd's result, and the new cursor.

    The journal goes on over boots, and so does the cursor. systemd notes each start of the sampler,
    too: who sees nothing at all may not read the journal, and that is no count of 0.

    Returns:
        Deaths and kills for want of memory; None where the journal could not be read.
    """
    of = [word for name in (unit, own) for word in ("_PID=1", f"UNIT={name}", "+")][:-1]
    where = [f"--after-cursor={cursor}"] if cursor else ["--lines=1"]
    deaths: Counter[str] = Counter()
    kills, seen = 0, ""
    for entry in entries(*where, *of):
        seen = entry.get("__CURSOR") or seen
        if cursor and entry.get("UNIT") == unit:
            kills += entry.get("MESSAGE_ID") == OUT_OF_MEMORY
            if entry.get("MESSAGE_ID") == FAILED:
                deaths[str(entry.get("UNIT_RESULT", "unknown"))[:40]] += 1
    return (dict(deaths), kills, seen) if seen else (None, None, cursor)


def entries(*asked: str) -> Iterator[Json]:
    """Return entries of the journal, the oldest first and no more than MOST_ENTRIES."""
    command = [
        "/usr/bin/journalctl", "--quiet", "--no-pager", "--output=json",
        "--output-fields=MESSAGE_ID,UNIT,UNIT_RESULT", *asked,
    ]  # fmt: skip
    try:
        process = subprocess.Popen(  # noqa: S603 - root named the unit
            command, env=CLEAN, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return
    with process:
        assert process.stdout is not None
        for _ in range(MOST_ENTRIES):
            line = process.stdout.readline(LONGEST_ENTRY)
            if not line:
                break
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    yield entry
        process.kill()


# ------------------------------------------------------------------ the service itself


def ask(question: Mapping[str, Any]) -> tuple[float | None, str]:
    """Ask the service a question.

    Returns:
        Seconds until the whole answer, and `ok`; timeout_s and `slow` where it did not end in time;
        else None and why. The text is empty where there is no question.
    """
    if not question:
        return None, ""
    limit_s = float(question.get("timeout_s", 30))
    headers = {"Content-Type": "application/json"}
    begun = time.monotonic()
    try:
        body = json.dumps(varied(question)).encode()
        asked = urllib.request.Request(question["url"], body, headers)  # noqa: S310 - root's own
        fetch(asked, limit_s, LONGEST_ANSWER)
    except TimeoutError:
        return limit_s, "slow"
    except urllib.error.HTTPError as error:
        return None, f"status {error.code}"
    except (LookupError, TypeError):
        return None, "vary names no field of the body"
    except (OSError, ValueError, http.client.HTTPException):
        return None, "no answer"
    return round(time.monotonic() - begun, 6), "ok"


def varied(question: Mapping[str, Any]) -> Any:
    """Return the body of a question; the field `vary` gets the time, so that no cache knows it."""
    body = question.get("body") or {}
    *folders, name = str(question.get("vary", "")).split(".")
    place = body
    for key in folders:
        place = place[key]
    if name:
        place[name] = int(time.time())
    return body


def fetch(request: Any, limit_s: float, most: int) -> bytes:
    """Return a whole answer.

    Raises:
        TimeoutError: it did not end in time.
        ValueError: it has more than `most` bytes.
        OSError, HTTPException: there is none.
    """
    # No proxy: the address is this very host's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline, parts, count = time.monotonic() + limit_s, [], 0
    try:
        with opener.open(request, timeout=limit_s) as answer:
            while part := answer.read1(1 << 16):
                parts.append(part)
                count += len(part)
                if count > most:
                    raise ValueError(f"more than {most} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError
    except urllib.error.URLError as error:
        raise (error.reason if isinstance(error.reason, TimeoutError) else error) from None
    return b"".join(parts)


def metrics(wanted: Mapping[str, str]) -> Json:
    """Return the figures of the service's own metrics that have a name in the settings."""
    if not wanted:
        return {}
    try:
        text = fetch(wanted["url"], CALL_LIMIT_S, LONGEST_METRICS).decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    series = list(parsed(text))
    found: Json = {}
    for name in ("cache_hits", "cache_misses", "cache_hit_rate"):
        values = [value for given, _, value in series if given == wanted.get(name)]
        if values and (len(values) == 1 or name != "cache_hit_rate"):
            found[name] = sum(values)
    if latency := wanted.get("latency"):
        found |= histogram(latency, series)
    return found


def histogram(name: str, series: list[tuple[str, dict[str, str], float]]) -> Json:
    """Return the buckets of a histogram, or the median that a summary or a gauge names."""
    counts: dict[float, float] = {}
    for given, labels, value in series:
        if given == f"{name}_bucket" and "le" in labels:
            with suppress(ValueError):
                end = float(labels["le"])
                counts[end] = counts.get(end, 0.0) + value
    if counts:
        ends = sorted(counts)[:MOST_BUCKETS]
        return {"buckets": [[None if end == float("inf") else end, counts[end]] for end in ends]}
    medians = [v for given, labels, v in series if given == name and _is_median(labels)]
    return {"latency_p50_s": max(medians)} if medians else {}


def _is_median(labels: Mapping[str, str]) -> bool:
    return labels.get("quantile", "0.5") == "0.5"


def parsed(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Return name, labels and value of each line of Prometheus' text format that is finite."""
    for line in text.splitlines():
        found = METRIC.fullmatch(line)
        if found:
            with suppress(ValueError):
                value = float(found[3])
                if abs(value) < float("inf"):
                    yield found[1], dict(LABEL.findall(found[2] or "")), value


# ------------------------------------------------------------------ the ring


def ring(folder: Path) -> list[Path]:
    """Return the files of the ring, the oldest first."""
    return sorted(path for path in folder.iterdir() if FILE.fullmatch(path.name))


def last(folder: Path) -> Json:
    """Return the last whole sample; empty where there is none."""
    for path in reversed(ring(folder)):
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - 2 * LONGEST_LINE))
            lines = handle.read(2 * LONGEST_LINE).splitlines()
        for line in reversed(lines):
            if sample := whole(line):
                return sample
    return {}


def whole(line: bytes) -> Json:
    try:
        sample = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return sample if isinstance(sample, dict) and sample.get("v") == SCHEMA else {}


def append(folder: Path, sample: Mapping[str, Any], keep: int) -> Path:
    """Write a sample, and remove the oldest files beyond `keep`.

    Raises:
        OSError: it cannot be written. The next sample then takes over what this one saw.
    """
    line = json.dumps(sample, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    files = ring(folder)
    if not files or is_full(files[-1], len(line), float(sample["at"])):
        count = int(files[-1].name[len("samples-") : -len(".jsonl")]) + 1 if files else 1
        files.append(folder / f"samples-{count:08d}.jsonl")
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(files[-1], flags, 0o640)
    with open(descriptor, "r+b", buffering=0) as handle:
        # What a power cut left of a line stays a line of its own, which readers leave out.
        size = handle.seek(0, os.SEEK_END)
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if handle.write(line) != len(line):
            raise OSError(f"{files[-1]}: the disk took a part of a sample")
        os.fsync(descriptor)
    for old in files[: -max(1, keep)]:
        old.unlink()
    return files[-1]


def is_full(path: Path, more: int, now: float) -> bool:
    """Tell whether a file holds a day of samples, no space for more, or samples of a later time."""
    with path.open("rb") as handle:
        first = whole(handle.readline(LONGEST_LINE)).get("at", now)
    return path.stat().st_size + more > FILE_BYTES or not 0 <= now - first < FILE_S


if __name__ == "__main__":
    sys.exit(main())
