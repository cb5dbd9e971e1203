"""One Windows host for all tests of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from windows_bed import WindowsBed, unavailable, windows_bed


@pytest.fixture(scope="session")
def available() -> None:
    """Say why there can be no bed here, if so."""
    why = unavailable()
    if why and os.environ.get("CI"):
        pytest.fail(f"a skipped test bed is a failure in CI: {why}")
    if why:
        pytest.skip(why)


@pytest.fixture(scope="session")
def host(available) -> Iterator[WindowsBed]:
    with windows_bed(f"t{os.getpid()}") as bed:
        yield bed


@pytest.fixture(scope="session")
def windows(host) -> Iterator[WindowsBed]:
    """The host with nothing broken."""
    host.mend()
    return host
