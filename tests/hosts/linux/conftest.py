"""One bed for all tests of the hosts, and what they find on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from bed import HOSTS, Bed, bed, unavailable
from fleet import INJECTED, PHASES, Fleet


@pytest.fixture(scope="session")
def hosts() -> Iterator[Bed]:
    why = unavailable()
    if why and os.environ.get("CI"):
        pytest.fail(f"a skipped test bed is a failure in CI: {why}")
    if why:
        pytest.skip(why)
    with bed(f"t{os.getpid()}") as own:
        yield own


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a worker of pytest-xdist tell what it injected."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["injected"] = dict(INJECTED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    INJECTED.update(getattr(node, "workeroutput", {}).get("injected", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if INJECTED:
        counts = ", ".join(f"{phase} {INJECTED[phase]}" for phase in PHASES)
        terminalreporter.write_line(f"runs broken off, by phase: {counts}")


@pytest.fixture(scope="session")
def built(hosts) -> Fleet:
    """The fleet, with an INT8 pair on the builder."""
    fleet = Fleet(hosts)
    for host in HOSTS:
        fleet.provision(host)
    done = fleet.run("quantize.yml", "--tags", "preflight,quantize,gate")
    assert done.returncode == 0, done.stdout
    return fleet


@pytest.fixture
def fleet(built) -> Iterator[Fleet]:
    """All hosts up, reachable and serving FP32, the pair copied to them, nothing ever released."""
    for host in HOSTS:
        built.bed.heal(host)
        if not built.bed.alive(host):
            built.bed.boot(host)
        built.provision(host)
        built.deliver(host)
    return built
