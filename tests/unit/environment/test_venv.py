"""Virtual environments with exactly the pinned packages, made of wheels of the test's own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelops.base.errors import ModelOpsError
from modelops.environment import venv
from modelops.environment.pins import Pin, holds, read_pins, this_environment
from modelops.environment.wheelhouse import download, environment_of, find
from modelops.execution import without_ansible
from packaging.markers import Marker
from wheels import wheel

python_venv = without_ansible.load("python_venv")
ZEROS = " --hash=sha256:" + "0" * 64


def ensure(place: Path, *pins: str, check: bool = False, **more: object) -> dict:
    """Run the module on the environment of a place, whose folder is its wheelhouse."""
    params = {
        key: option.get("default") for key, option in python_venv.MODULE["argument_spec"].items()
    }
    params |= {"python": str(place / "venv/bin/python3"), "requirements": "\n".join(pins)}
    return python_venv.run(params | {"wheelhouse": str(place)} | more, check)


def site(place: Path) -> Path:
    return next(place.glob("venv/lib/python3*/site-packages"))


def imported(place: Path, name: str) -> str:
    ask = f"import {name}; print({name}.version)"
    done = subprocess.run([place / "venv/bin/python3", "-c", ask], capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """An environment with alpha and beta 1.0, only to look at: making one takes seconds.

    It is made where the rest of another one lies.
    """
    place = tmp_path_factory.mktemp("made")
    pins = [wheel(place, name, "1.0", one="1\n", two="2\n") for name in ("alpha", "beta")]
    (place / "pins.txt").write_text("\n".join(pins))
    (place / "venv/bin").mkdir(parents=True)
    for left in ("pyvenv.cfg", "left.txt"):
        (place / "venv" / left).write_text("")
    told = ensure(place, *pins, check=True)
    both = {"alpha": "1.0", "beta": "1.0"}
    assert told["changed"] and told["made"] and told["installed"] == both
    assert (place / "venv/left.txt").exists()
    done = ensure(place, *pins)
    assert done == told and done["diff"] == {"before": "", "after": "alpha==1.0\nbeta==1.0\n"}
    return place


@pytest.fixture
def pins(made) -> list[str]:
    return (made / "pins.txt").read_text().splitlines()


@pytest.fixture(scope="session")
def copied(made, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("copied")
    return shutil.copytree(made, place, symlinks=True, dirs_exist_ok=True)


@pytest.fixture
def own(made, copied) -> Iterator[Path]:
    """The same, to change."""
    yield copied
    for path in [*site(copied).glob("*lpha*"), *site(copied).glob("beta*")]:
        shutil.rmtree(path)
    for name in ("alpha", "beta", "alpha-1.0.dist-info", "beta-1.0.dist-info"):
        shutil.copytree(site(made) / name, site(copied) / name)
    shutil.copy(site(made) / "pip/__main__.py", site(copied) / "pip")
    shutil.copy(made / "venv/pyvenv.cfg", copied / "venv")
    (copied / "venv/bin/python3").unlink(missing_ok=True)
    (copied / "venv/bin/python3").symlink_to((made / "venv/bin/python3").readlink())


def test_what_is_right_is_left_alone(made, pins):
    again = ensure(made, *pins)
    assert (again["changed"], again["made"], again["installed"]) == (False, False, {})
    assert imported(made, "alpha") == "1.0"
    assert not (made / "venv/left.txt").exists()


def test_what_is_broken_is_repaired(own, pins):
    (site(own) / "alpha/one.py").write_text("2\n")
    (site(own) / "beta/two.py").unlink()
    told = ensure(own, *pins, check=True)
    assert told["installed"] == {"alpha": "1.0", "beta": "1.0"} and not told["made"]
    assert (site(own) / "alpha/one.py").read_text() == "2\n"
    assert ensure(own, *pins) == told
    assert (site(own) / "alpha/one.py").read_text() == "1\n"
    assert (site(own) / "beta/two.py").read_text() == "2\n"


def test_another_version_from_an_index_and_what_nobody_pinned(own):
    index = own / "simple/alpha"
    index.mkdir(parents=True)
    newer = wheel(index, "alpha", "3.0", one="1\n")
    (file,) = index.iterdir()
    (index / "index.html").write_text(f'<a href="{file.name}">{file.name}</a>')
    online = {"wheelhouse": None, "index_url": index.parent.as_uri()}
    told = ensure(own, newer, check=True, **online)
    assert (told["installed"], told["removed"]) == ({"alpha": "3.0"}, {"beta": "1.0"})
    assert ensure(own, newer, **online) == told
    assert (imported(own, "alpha"), imported(own, "beta")) == ("3.0", "")


def damage_record(place: Path) -> None:
    (site(place) / "alpha-1.0.dist-info/RECORD").unlink()


def damage_pip(place: Path) -> None:
    (site(place) / "pip/__main__.py").unlink()


def leave_a_half_of_alpha(place: Path) -> None:
    shutil.copytree(site(place) / "alpha-1.0.dist-info", site(place) / "~lpha-1.0.dist-info")


def have_no_python(place: Path) -> None:
    (place / "venv/bin/python3").unlink()


def be_of_another_python(place: Path) -> None:
    have_no_python(place)
    told = {"python": "3.11.0 (other)", "prefix": str(place / "venv"), "packages": {}}
    (place / "venv/bin/python3").write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
    (place / "venv/bin/python3").chmod(0o755)


@pytest.mark.parametrize(
    "damage",
    [damage_record, damage_pip, leave_a_half_of_alpha, have_no_python, be_of_another_python],
)
def test_what_pip_cannot_mend_is_to_be_made_anew(own, pins, damage):
    damage(own)
    told = ensure(own, *pins, check=True)
    assert told["made"] and told["installed"] == {"alpha": "1.0", "beta": "1.0"}


def test_an_environment_that_lost_its_configuration_is_not_this_python(own):
    """Its Python is that of the system then, and its packages are not ours to remove."""
    (own / "venv/pyvenv.cfg").unlink()
    for check in (True, False):
        with pytest.raises(ModelOpsError, match="no virtual environment, and holds "):
            ensure(own, check=check)


@pytest.mark.parametrize(
    ("pin", "words"),
    [
        ("alpha==1.0", "neither one version nor a SHA-256"),
        ("alpha>=1.0" + ZEROS, "neither one version nor a SHA-256"),
        ("alpha==1.*" + ZEROS, "neither one version nor a SHA-256"),
        ("what is this", "neither one version nor a SHA-256"),
        ("alpha==1.0 ; extra == 'x'" + ZEROS, "marker is not understood"),
        ("alpha==1.0 ; python_version ~= '3.1'" + ZEROS, "marker is not understood"),
        ("alpha==1.0" + ZEROS + "\nAlpha==2.0" + ZEROS, "alpha: pinned twice"),
    ],
)
def test_pins_that_cannot_be(tmp_path, pin, words):
    with pytest.raises(ModelOpsError, match=words):
        ensure(tmp_path, pin, check=True)


def test_comments_markers_and_continued_lines():
    text = (
        "# comment\n\nAlpha_X[extra]==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:"
        f"{'0' * 64} \\\r\n    --hash=sha256:{'1' * 64}\nbeta==2 ; sys_platform != 'win32'{ZEROS}\n"
    )
    pins = read_pins(text, environment_of("win_amd64", "3.12"))
    assert pins == {"alpha-x": Pin("alpha-x", "1.0", frozenset({"0" * 64, "1" * 64}))}
    assert list(read_pins(text, environment_of("manylinux_2_28_x86_64", "3.12"))) == ["beta"]
    assert read_pins(pins["alpha-x"].line, {}) == pins
    with pytest.raises(ModelOpsError, match="no such platform"):
        environment_of("win32", "3.12")


@pytest.mark.parametrize(
    "marker",
    [
        "python_version < '3.9'", "python_full_version >= '3.12'", "'3.10' <= python_version",
        "python_full_version == '3.12.0'", "python_full_version != '3.13.10'",
        "(os_name == 'nt' or sys_platform == 'linux') and implementation_name != 'pypy'",
        "platform_machine == 'AMD64' or platform_system == 'Linux' and python_version > '3.11'",
        "platform_python_implementation == 'CPython'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("python", ["3.9.18", "3.10.0", "3.12", "3.13.10"])
def test_markers_are_read_as_packaging_reads_them(marker, python):
    for known in (this_environment(), environment_of("win_amd64", python)):
        assert holds(marker, known) == Marker(marker).evaluate(dict(known))


def test_what_the_wheelhouse_lacks_is_told_before_anything_is_touched(tmp_path):
    pins = [wheel(tmp_path, name, "1.0") for name in ("alpha", "beta")]
    (tmp_path / "beta-1.0-py3-none-any.whl").write_bytes(b"damaged")
    pins.append("gone==1.0" + ZEROS)
    told = ensure(tmp_path, *pins, check=True)
    assert told["lacking"] == {"beta": "1.0", "gone": "1.0"}
    words = r"no wheel here is the pinned one of beta 1\.0, gone 1\.0\. .*make wheelhouse"
    with pytest.raises(ModelOpsError, match=words):
        ensure(tmp_path, *pins)
    assert not (tmp_path / "venv").exists()


def test_what_pip_says(made, pins, monkeypatch):
    """An index that does not answer; and a wheel that is changed after it was looked at."""
    monkeypatch.setenv("PIP_RETRIES", "0")
    gone = "gone==1.0" + ZEROS
    with pytest.raises(ModelOpsError, match="package index can be reached"):
        ensure(made, *pins, gone, wheelhouse=None, index_url="http://127.0.0.1:9/simple")
    wheel(made, "gone", "1.0", planted="evil = 1\n")
    monkeypatch.setattr(venv.Venv, "_lacking", lambda *_: [])
    with pytest.raises(ModelOpsError, match=r"(?s)HASHES.*not the one that was pinned"):
        ensure(made, *pins, gone)
    (made / "gone-1.0-py3-none-any.whl").unlink()
    assert imported(made, "gone") == ""


def test_a_password_in_the_address_of_the_index(tmp_path):
    with pytest.raises(ModelOpsError, match="own pip configuration") as caught:
        ensure(tmp_path, wheelhouse=None, index_url="https://me:secret@index/simple", check=True)
    assert "secret" not in str(caught.value)


def test_its_limit(tmp_path):
    with pytest.raises(ModelOpsError, match="python_runtime_limit_s"):
        ensure(tmp_path, wheel(tmp_path, "alpha", "1.0"), limit_s=0)


def test_folders_that_are_not_ours(tmp_path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/letter.txt").write_text("dear")
    for check in (True, False):
        with pytest.raises(ModelOpsError, match=r"no virtual environment, and holds letter\.txt"):
            ensure(tmp_path, check=check)
    assert (tmp_path / "venv/letter.txt").read_text() == "dear"
    with pytest.raises(ModelOpsError, match="not the Python of a virtual environment"):
        ensure(tmp_path, python=str(tmp_path / "python3"))
    with pytest.raises(ModelOpsError, match="cannot make itself"):
        ensure(tmp_path, python=str(Path(venv.sys.prefix) / "bin/python3"))


@pytest.mark.parametrize(
    ("driver", "gpu"), [("echo RTX 4090, 24564, 560.94", True), ("exit 9", False)]
)
def test_the_packages_for_a_gpu(tmp_path, monkeypatch, driver, gpu):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{driver}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    options = {"requirements_gpu": "beta==1.0" + ZEROS, "check": True}
    done = ensure(tmp_path, "alpha==1.0" + ZEROS, **options)
    assert done["gpu"] == gpu and list(done["packages"]) == ["beta" if gpu else "alpha"]
    assert not ensure(tmp_path, "alpha==1.0" + ZEROS, **options, accelerator="cpu")["gpu"]


def test_the_controllers_wheelhouse(tmp_path, monkeypatch):
    there, house = tmp_path / "index", tmp_path / "house"
    there.mkdir()
    pins = [wheel(there, name, "1.0") for name in ("alpha_x", "beta", "gamma")]
    file = tmp_path / "pins.txt"
    file.write_text("\n".join(pins[:2]) + "\n" + pins[2].replace(" ", " ; os_name == 'nt' ", 1))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(there))
    house.mkdir()
    wheel(house, "old", "1.0")
    (house / "beta-1.0-py3-none-any.whl").write_bytes(b"damaged")
    download(house, [file], ["manylinux_2_28_x86_64", "manylinux2014_x86_64"], "3.12")
    names = ["alpha_x-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl"]
    assert sorted(path.name for path in house.iterdir()) == names
    wanted = {"alpha-x": "1.0", "beta": "1.0"}
    assert [path.name for path in find(house, file.read_text(), wanted)] == names
    (house / names[1]).write_bytes(b"damaged")
    with pytest.raises(ModelOpsError) as caught:
        find(house, file.read_text(), wanted | {"gamma": "1.0"})
    assert "beta-1.0-py3-none-any.whl is not the pinned one" in str(caught.value)
    assert "no gamma 1.0" in str(caught.value)
    assert find(tmp_path / "absent", "", {}) == []
