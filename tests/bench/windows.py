"""Measure the Windows side on the bed: what the bridge costs, quantizing there, and the push.

    make bench-windows     # root, Debian 12; 5 GB of disk

The host is Windows CPython under Wine behind the WinRM double, in one network with a Linux host.
Its peers are the same module on this machine, and scp; each is run in turn with what it is
compared with. Ends with 1 when a promise is missed.

Quantizing is measured on the processors as they are, and judged on ones that are kept from halting:
under Wine each file call is several messages between processes, and to wake a virtual processor
that has halted costs some 0.1 ms a message.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
PARTS = "module_utils", "tests", "tests/hosts/linux", "tests/hosts/windows"
sys.path[:0] = [str(ROOT / part) for part in PARTS]

import plays  # noqa: E402
from bed import NAMESPACES, NET, Bed, bed  # noqa: E402
from modelops.pair import manifest  # noqa: E402
from modelops.sample.sample import make_sample  # noqa: E402
from test_transfer import FOLDER, KEYS, USER, make_account  # noqa: E402
from windows_bed import windows_bed  # noqa: E402

MEGABYTES = 1100
ROUNDS = 3
# Seconds of a small call; our time by Linux's; bytes a second of a push, and by scp's.
CALL_S, QUANTIZE_MAX, PUSH_MIN, PUSH_RATIO_MIN = 1.5, 1.5, 80e6, 0.3
PLACE = r"C:\bench"
LOCAL = SimpleNamespace(
    inventory_vars=lambda: {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
    }
)  # fmt: skip
CLONE_NEWNET = 0x40000000


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Let this process, and whatever it starts, use the network of a bed."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as own, (NAMESPACES / namespace).open() as other:

        def enter(network: TextIO) -> None:
            if libc.setns(network.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"entering {network.name}")

        enter(other)
        try:
            yield
        finally:
            enter(own)


def play(host: Any, *tasks: dict[str, Any]) -> plays.Outcome:
    done = plays.run(host, *tasks)
    if done.rc:
        raise SystemExit(done.output)
    return done


def small_call(windows: Any) -> float:
    """Return the median seconds of a call after the first, of a module that imports no package."""
    run = {"run": "bench", "owner": "bench", "process": ""}
    task = {"host_lock": {"path": PLACE, "run": run}}
    return statistics.median(play(windows, *[task] * (ROUNDS + 1)).seconds[1:])


@contextmanager
def awake() -> Iterator[None]:
    """Keep the processors from halting (Linux' PM QoS: no wake-up may take longer than 0 us)."""
    with ExitStack() as held:
        try:
            wish = held.enter_context(Path("/dev/cpu_dma_latency").open("wb", buffering=0))
            wish.write(bytes(4))
        except OSError as error:
            print(f"  the processors halt as they like: {error}")
        yield


def quantizing(windows: Any, here: Path) -> tuple[float, float]:
    """Return the median seconds of the task over WinRM, and on this machine."""
    sides: dict[str, tuple[Any, str, list[float]]] = {
        "Linux": (LOCAL, str(here), []), "Windows": (windows, PLACE, []),
    }  # fmt: skip
    for _ in range(ROUNDS):
        for name, (host, folder, took) in sides.items():
            options = {"src": f"{folder}/m.onnx", "dest": f"{folder}/m8.onnx", "force": True}
            done = play(host, {"onnx_quantize": options})
            took.append(done.seconds[-1])
            print(f"  {name}: {took[-1]:.1f} s, {done.result['elapsed_s']:.1f} s in the quantizer")
    return statistics.median(sides["Windows"][2]), statistics.median(sides["Linux"][2])


def pushing(windows: Any, own: Bed, here: Path) -> tuple[float, float]:
    """Return the best bytes a second from Windows to h1, and of scp, fsync counted in both."""
    source = here / "m.onnx.data"
    entries = [manifest.describe(here / name) for name in ("m.onnx", "m.onnx.data")]
    made = manifest.build(entries, entries, {}, [], {})
    public = (own.state / "h1.d/ssh_host_ed25519_key.pub").read_text()
    ours, theirs = [], []
    for _ in range(ROUNDS):
        make_account(own)
        started = time.monotonic()
        own.exec("scp", "-q", "-F", own.state / "ssh_config", source, "h1:/var/tmp/x")
        own.ssh("h1", "sync /var/tmp/x")
        theirs.append(source.stat().st_size / (time.monotonic() - started))
        own.ssh("h1", "rm /var/tmp/x")
        begin = {
            "state": "started", "src": PLACE, "manifest": made, "host": own.address("h1"),
            "user": USER, "host_key": " ".join(public.split()[:2]), "folder": FOLDER,
        }  # fmt: skip
        done = play(
            windows,
            {"artifact_push": begin, "register": "begun"},
            {
                "ansible.builtin.command": {
                    "argv": ["ssh", "-F", f"{own.state}/ssh_config", "h1", f"sudo tee {KEYS}"],
                    "stdin": 'restrict,command="internal-sftp" {{ begun.public_key }}',
                },
                "delegate_to": "localhost",
                "vars": LOCAL.inventory_vars(),
            },
            {"artifact_push": {"state": "finished", "job": "{{ begun.job }}"}},
        )
        ours.append(done.result["sent_bytes"] / done.result["elapsed_s"])
        print(f"  Windows {ours[-1] / 1e6:.0f} MB/s, scp {theirs[-1] / 1e6:.0f} MB/s")
        own.ssh("h1", f"sudo rm -rf {FOLDER}")
    return max(ours), max(theirs)


def main() -> int:
    missed = []

    def judge(text: str, holds: bool) -> None:
        print(f"{text}{'' if holds else '  MISSED'}", flush=True)
        missed.extend([] if holds else [text])

    name = f"b{os.getpid()}"
    with bed(name) as own, entered(own.namespace), windows_bed(name, address=f"{NET}.1") as windows:
        here = own.state / "here"
        here.mkdir()
        make_sample(here / "m.onnx", MEGABYTES)
        shutil.copytree(here, windows.path(PLACE))
        call = small_call(windows)
        judge(f"a small call: {call:.2f} s (promised under {CALL_S})", call < CALL_S)
        there, local = quantizing(windows, here)
        print(f"on processors that halt: {there:.1f} s, {local:.1f} s, {there / local:.2f}x")
        with awake():
            there, local = quantizing(windows, here)
        ratio = there / local
        judge(
            f"quantizing {MEGABYTES} MB over WinRM: {there:.1f} s, on Linux {local:.1f} s,"
            f" {ratio:.2f}x (promised at most {QUANTIZE_MAX})",
            ratio <= QUANTIZE_MAX,
        )
        rate, peer = pushing(windows, own, here)
        judge(
            f"pushing it from Windows: {rate / 1e6:.0f} MB/s (promised {PUSH_MIN / 1e6:.0f}),"
            f" {rate / peer:.2f} of scp's (promised {PUSH_RATIO_MIN})",
            rate >= PUSH_MIN and rate >= PUSH_RATIO_MIN * peer,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
