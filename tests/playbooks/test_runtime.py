"""The phase that makes the builder's environment, alone, on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Outcome, Site
from wheels import wheel


@pytest.fixture
def house(site) -> Path:
    """The controller's wheelhouse; what is pinned lies beside it."""
    house = site.folder / "house"
    for folder in (house, site.builder, site.models()):
        folder.mkdir(parents=True)
    pins = [wheel(house, name, "1.0") for name in ("alpha", "beta")]
    (site.folder / "pins.txt").write_text("\n".join(pins))
    return house


def make(site: Site, house: Path, arguments: str = "", **variables: object) -> Outcome:
    given = {
        "sarai_builder_base_python": sys.executable,
        "sarai_builder_python": str(site.folder / "venv/bin/python3"),
        "python_runtime_strategy": "wheelhouse",
        "python_runtime_wheelhouse": str(house),
        "python_runtime_requirements": str(site.folder / "pins.txt"),
    }
    return site.run("quantize.yml", f"--tags runtime {arguments}", **given | variables)


def test_the_phase_alone(site, house):
    venv, there = site.folder / "venv", site.folder / "venv-wheelhouse"
    told = make(site, house, "--check --diff")
    assert told.rc == 0, told.output
    assert "+alpha==1.0" in told.output and not venv.exists() and not there.exists()
    done = make(site, house)
    assert done.rc == 0, done.output
    assert told.changed_tasks() == done.changed_tasks() != []
    ask = [venv / "bin/python3", "-c", "import alpha, beta; print(alpha.version, beta.version)"]
    assert subprocess.check_output(ask, text=True).strip() == "1.0 1.0"
    # Nothing is asked of an index either, where there is nothing to do.
    again = make(site, house, python_runtime_strategy="online")
    assert again.rc == 0 and again.changed_tasks() == [], again.output
