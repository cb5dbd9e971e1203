"""One Windows host for all tests of it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import models
import pytest
from modelops.sample.sample import make_sample
from plays import PLACE, program, run
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


@pytest.fixture
def work(windows, tmp_path, request) -> Iterator[SimpleNamespace]:
    """A folder of the test's own, with spaces and more in its name: name, folder, local."""
    name = "C:\\work\\" + re.sub(r"\W", "", request.node.name)[:30] + " ünï 100%"
    folder = windows.path(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield SimpleNamespace(name=name, folder=folder, local=tmp_path)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def voice(work) -> SimpleNamespace:
    """That folder with a small model, m.onnx."""
    models.voice(work.folder / "m.onnx")
    return work


@pytest.fixture(scope="session")
def sample(tmp_path_factory) -> Path:
    """A model that takes some seconds to quantize."""
    path = tmp_path_factory.mktemp("sample") / "m.onnx"
    make_sample(path, 120)
    return path


@pytest.fixture
def large(sample, work) -> SimpleNamespace:
    """That folder with a model that takes some seconds."""
    for name in ("m.onnx", "m.onnx.data"):
        shutil.copyfile(sample.with_name(name), work.folder / name)
    return work


@pytest.fixture(scope="session")
def jobs(windows) -> Path:
    """The folder of the bridge's jobs on the host."""
    task = program(windows, "import os; print(os.environ['LOCALAPPDATA'])")
    return windows.path(run(windows, task).result["stdout"].strip() + r"\modelops\jobs")
