"""One Windows host for all tests of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from plays import PLACE
from windows_bed import WindowsBed, unavailable, windows_bed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_windows_way.py")


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


@pytest.fixture
def place(windows) -> Iterator[Path]:
    """A folder of the test's own on the host."""
    windows.mend()
    folder = windows.path(PLACE)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    windows.mend()
    shutil.rmtree(folder, ignore_errors=True)
