"""The builder's environment on a Windows host, from wheels that the controller brings."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from plays import Outcome, run
from wheels import wheel

NAME = "C:\\work\\rüntime 100%"
BOTH = {"alpha": "1.0", "beta": "1.0"}


@pytest.fixture(scope="module")
def place(windows, tmp_path_factory):
    """Folders of these tests on the host, and a wheelhouse and pins on the controller."""
    folder, local = windows.path(NAME), tmp_path_factory.mktemp("controller")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (local / "house").mkdir()
    pins = [wheel(local / "house", name, "1.0", one="1\n") for name in BOTH]
    (local / "pins.txt").write_text("\n".join(pins))
    yield SimpleNamespace(
        folder=folder,
        house=local / "house",
        pins=local / "pins.txt",
        site=folder / "venv/Lib/site-packages",
        wheels=folder / "venv-wheelhouse",
    )
    shutil.rmtree(folder, ignore_errors=True)


def make(windows, place: SimpleNamespace, arguments: str = "", **variables: object) -> Outcome:
    given = {
        "sarai_builder_base_python": windows.python,
        "sarai_builder_python": f"{NAME}\\venv\\Scripts\\python.exe",
        "python_runtime_strategy": "wheelhouse",
        "python_runtime_wheelhouse": str(place.house),
        "python_runtime_requirements": str(place.pins),
        "python_runtime_limit_s": 200,
    }
    role = {"ansible.builtin.include_role": {"name": "python_runtime"}}
    return run(windows, role, arguments=arguments, **given | variables)


def changed(outcome: Outcome) -> list[object]:
    """What was brought there and installed, or would have been."""
    assert outcome.rc == 0, outcome.output
    each = [one for result in outcome.results for one in result.get("results", [result])]
    found = [one for one in each if one.get("changed")]
    return [Path(one["item"]).name if "item" in one else one["installed"] for one in found]


def file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


@pytest.fixture(scope="module")
def made(windows, place) -> SimpleNamespace:
    wanted = [*file_names(place.house), BOTH]
    told = make(windows, place, "--check --diff")
    assert "+alpha==1.0" in told.output and changed(told) == wanted
    assert file_names(place.folder) == []
    done = make(windows, place)
    assert changed(done) == wanted and done.result["made"]
    return place


def test_made_and_left_alone(windows, made):
    python = f"{NAME}\\venv\\Scripts\\python.exe"
    ask = "import alpha, beta, sys; print(alpha.version, beta.version, sys.prefix)"
    task = {"ansible.windows.win_command": {"argv": [python, "-X", "utf8", "-c", ask]}}
    assert run(windows, task).result["stdout"].split(maxsplit=2) == [
        "1.0", "1.0", f"{NAME}\\venv\r\n",
    ]  # fmt: skip
    assert file_names(made.wheels) == file_names(made.house)
    assert not list(windows.path("%TEMP%").glob("ansible-tmp-*"))
    # What the environment has already is asked of no controller's wheelhouse.
    assert changed(make(windows, made, python_runtime_wheelhouse="/absent")) == []


def test_repaired_with_what_lacks_alone(windows, made):
    (made.site / "alpha/one.py").unlink()
    (made.site / "beta/one.py").write_text("2\n")
    beta = made.wheels / "beta-1.0-py3-none-any.whl"
    beta.write_bytes(b"damaged")
    outcome = make(windows, made)
    assert changed(outcome) == [beta.name, BOTH] and not outcome.result["made"]
    assert [(made.site / name / "one.py").read_text() for name in BOTH] == ["1\n", "1\n"]


def test_a_wheel_that_is_not_the_pinned_one(windows, made):
    """It is named before it travels, and nothing is touched."""
    wheel(made.house, "gamma", "1.0", planted="evil = 1\n")
    pins = made.pins.with_name("more.txt")
    pins.write_text(f"{made.pins.read_text()}\ngamma==1.0 --hash=sha256:{'0' * 64}")
    before = file_names(made.wheels), file_names(made.site)
    outcome = make(windows, made, python_runtime_requirements=str(pins))
    assert outcome.rc == 2
    assert "gamma-1.0-py3-none-any.whl is not the pinned one" in outcome.output
    assert (file_names(made.wheels), file_names(made.site)) == before


def test_an_environment_that_was_deleted(windows, made):
    shutil.rmtree(made.folder / "venv")
    outcome = make(windows, made)
    assert changed(outcome) == [BOTH] and outcome.result["made"]
    assert (made.site / "alpha/one.py").read_text() == "1\n"
