"""Measure a release on real hosts: the transfer against scp, the service's downtime, the way back.

    make bench-linux     # root, Debian 12; 4 GB of disk

Ends with 1 when a promise is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("module_utils", "tests", "tests/hosts/linux")]

from bed import HOSTS, Bed, bed  # noqa: E402
from fleet import Fleet  # noqa: E402
from test_transfer import FOLDER, Sender, make_account  # noqa: E402

PAIR_BYTES = 1050 << 20  # 1.1 GB
ROUNDS = 3
# Our rate by scp's; seconds of a rollback beside the service's own load; seconds of an idle rerun.
TRANSFER_MIN, ROLLBACK_S, RERUN_S = 0.6, 15.0, 40.0
POLL_S = 0.05  # 20 Hz
CLIENT = f"""
import json, sys, time, urllib.request
gaps, last, end = [], time.monotonic(), time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    try:
        urllib.request.urlopen("http://127.0.0.1:8080/health", timeout=1).read()
        now = time.monotonic()
        gaps.append(now - last)
        last = now
    except OSError:
        pass
    time.sleep({POLL_S})
print(json.dumps(sorted(gaps)[-3:]))
"""


def transfer(own: Bed) -> float:
    """Return our rate by scp's, both from this machine to h1, in turn, fsync counted."""
    folder = own.state / "pair"
    folder.mkdir()
    sender = Sender(own, folder, PAIR_BYTES)
    data = folder / "m.onnx.data"
    ours, theirs = [], []
    for _ in range(ROUNDS):
        make_account(own)
        started = time.monotonic()
        own.exec("scp", "-q", "-F", own.state / "ssh_config", data, f"h1:/var/tmp/{data.name}")
        own.ssh("h1", f"sync /var/tmp/{data.name}")
        theirs.append(time.monotonic() - started)
        own.ssh("h1", f"rm /var/tmp/{data.name}")
        ours.append(sender.push()["elapsed_s"])
        own.ssh("h1", f"sudo rm -rf {FOLDER}")
    size = PAIR_BYTES / 1e6
    print(f"transfer: {size / min(ours):.0f} MB/s, scp {size / min(theirs):.0f} MB/s (best of 3)")
    return min(theirs) / min(ours)


@contextmanager
def watched(fleet: Fleet, seconds: float) -> Iterator[Callable[[], float]]:
    """Poll the service on h1 at 20 Hz; gives a call that waits and returns the longest gap."""
    command = fleet.bed.command("ssh", "-F", fleet.bed.state / "ssh_config", "h1")
    client = subprocess.Popen(
        [*command, f"python3 -c '{CLIENT}' {seconds}"], stdout=subprocess.PIPE, text=True
    )
    time.sleep(1)
    try:
        yield lambda: json.loads(client.communicate(timeout=seconds + 30)[0])[-1]
    finally:
        client.kill()
        client.wait()


def timed(fleet: Fleet, playbook: str, *arguments: str) -> float:
    started = time.monotonic()
    done = fleet.run(playbook, *arguments, transfer_strategy="sftp")
    if done.returncode:
        raise SystemExit(done.stdout)
    return time.monotonic() - started


def main() -> int:
    missed = []
    with bed(f"b{os.getpid()}") as own:
        ratio = transfer(own)
        print(f"transfer: {ratio:.2f} of scp's rate (promised {TRANSFER_MIN})")
        if ratio < TRANSFER_MIN:
            missed.append("transfer")
        fleet = Fleet(own)
        for host in HOSTS:
            fleet.provision(host)
        with watched(fleet, 8) as gap:
            own.ssh("h1", "sudo systemctl restart sarai")
            restart = gap()
        with watched(fleet, 60) as gap:
            first = timed(fleet, "quantize.yml", "--limit", "h1,control,localhost")
            downtime = gap()
        print(f"downtime of a release: {downtime:.2f} s; of one restart: {restart:.2f} s")
        if downtime > 2 * restart + 2 * POLL_S:
            missed.append("downtime")
        everywhere = timed(fleet, "quantize.yml")
        print(f"release: {first:.1f} s to one host, {everywhere:.1f} s to the other two after it")
        rerun = min(timed(fleet, "quantize.yml") for _ in range(2))
        print(f"rerun with nothing to do, {len(HOSTS)} hosts: {rerun:.1f} s (promised {RERUN_S:g})")
        if rerun > RERUN_S:
            missed.append("rerun")
        back = timed(fleet, "rollback.yml")
        limit = ROLLBACK_S + restart
        print(f"rollback, {len(HOSTS)} hosts: {back:.1f} s (promised {limit:.1f}, load included)")
        if back > limit:
            missed.append("rollback")
    for name in missed:
        print(f"missed: {name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
