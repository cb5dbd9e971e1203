"""Virtual environments with exactly the pinned packages, made of wheels of the test's own."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from modelops import standalone, venv
from modelops.errors import ModelOpsError

python_venv = standalone.load("python_venv")


def wheel(folder: Path, name: str, version: str, **files: str) -> str:
    """Make a wheel and return its pin."""
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}/__init__.py": f"version = {version!r}\n",
        **{f"{name}/{file}.py": text for file, text in files.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def digest(text: str) -> str:
        raw = hashlib.sha256(text.encode()).digest()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    record = "".join(f"{file},sha256={digest(t)},{len(t)}\n" for file, t in content.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (content | {f"{info}/RECORD": record + f"{info}/RECORD,,\n"}).items():
            archive.writestr(file, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """An environment to copy: making one takes seconds."""
    folder = tmp_path_factory.mktemp("base")
    pins = wheel(folder, "alpha", "1.0", one="1\n")
    make(folder / "venv", pins, folder)
    return folder


@pytest.fixture
def place(base, tmp_path) -> Path:
    shutil.copytree(base, tmp_path / "p", symlinks=True)
    return tmp_path / "p"


def make(folder: Path, pins: str, wheels: Path | None, check_mode: bool = False, **more) -> dict:
    params = {key: option.get("default") for key, option in python_venv.ARGUMENT_SPEC.items()}
    given = {"python": folder / "bin/python3", "requirements": pins, "wheelhouse": wheels}
    return python_venv.run(params | {k: str(v) for k, v in given.items() if v} | more, check_mode)


def imported(folder: Path, name: str) -> str:
    ask = f"import {name}; print({name}.version)"
    done = subprocess.run([folder / "bin/python3", "-c", ask], capture_output=True, text=True)
    return done.stdout.strip()


def test_made_once_and_left_alone(tmp_path):
    pins = wheel(tmp_path, "alpha", "1.0")
    told = make(tmp_path / "venv", pins, tmp_path, check_mode=True)
    assert told["changed"] and told["made"] and not (tmp_path / "venv").exists()
    done = make(tmp_path / "venv", pins, tmp_path)
    assert done["made"] and done["installed"] == {"alpha": "1.0"}
    assert done["diff"] == {"before": "", "after": "alpha==1.0\n"}
    assert imported(tmp_path / "venv", "alpha") == "1.0"
    again = make(tmp_path / "venv", pins, tmp_path)
    assert (again["changed"], again["made"], again["installed"]) == (False, False, {})


@pytest.mark.parametrize("damage", ["changed", "missing", "no record", "broken python"])
def test_what_is_broken_is_repaired(place, damage):
    folder, pins = place / "venv", wheel(place, "alpha", "1.0", one="1\n")
    site = next(folder.glob("lib/python3*/site-packages"))
    if damage == "changed":
        (site / "alpha/one.py").write_text("2\n")
    elif damage == "missing":
        (site / "alpha/one.py").unlink()
    elif damage == "no record":
        (site / "alpha-1.0.dist-info/RECORD").unlink()
    else:
        (folder / "bin/python3").unlink()
    told = make(folder, pins, place, check_mode=True)
    assert told["changed"]
    done = make(folder, pins, place)
    assert done["installed"] == {"alpha": "1.0"} and done["made"] == (
        damage in ("no record", "broken python")
    )
    assert (site / "alpha/one.py").read_text() == "1\n"
    assert not make(folder, pins, place)["changed"]


def test_another_version_and_what_nobody_pinned(place):
    folder = place / "venv"
    beta = wheel(place, "beta_x", "2.0")
    done = make(folder, beta, place)
    assert (done["installed"], done["removed"]) == ({"beta-x": "2.0"}, {"alpha": "1.0"})
    assert imported(folder, "alpha") == ""
    newer = wheel(place, "beta_x", "3.0")
    assert make(folder, newer, place)["installed"] == {"beta-x": "3.0"}
    assert imported(folder, "beta_x") == "3.0"


def test_markers_comments_and_continued_lines(place):
    alpha, beta = (wheel(place, name, "1.0", one="1\n") for name in ("alpha", "beta"))
    name, _, digest = beta.partition(" ")
    pins = (
        "# comment\n" + alpha.replace(" ", " \\\n    ")
        + f"\n{name} ; sys_platform == 'win32' \\\n    {digest}\n"
    )  # fmt: skip
    done = make(place / "venv", pins, place)
    assert not done["changed"] and done["packages"] == {"alpha": "1.0"}


@pytest.mark.parametrize(
    ("pins", "words"),
    [
        ("alpha==1.0", "neither one version nor a SHA-256"),
        ("alpha>=1.0 --hash=sha256:00", "neither one version nor a SHA-256"),
        ("what is this", "not a pin"),
        ("gone==1.0 --hash=sha256:" + "0" * 64, "(?s)No matching distribution.*wheelhouse holds"),
    ],
)
def test_pins_that_cannot_be(place, pins, words):
    with pytest.raises(ModelOpsError, match=words):
        make(place / "venv", pins, place)


def test_a_wheel_with_another_hash(place):
    pins = wheel(place, "beta", "1.0")
    wheel(place, "beta", "1.0", planted="evil = 1\n")
    with pytest.raises(ModelOpsError, match=r"(?s)HASHES.*not the one that was pinned"):
        make(place / "venv", pins, place)
    assert imported(place / "venv", "beta") == ""


def test_an_index_that_does_not_answer(place, monkeypatch):
    monkeypatch.setenv("PIP_RETRIES", "0")
    pins = "beta==1.0 --hash=sha256:" + "0" * 64
    with pytest.raises(ModelOpsError, match="package index can be reached"):
        make(place / "venv", pins, None, index_url="http://127.0.0.1:9/simple")


def test_its_limit(place):
    with pytest.raises(ModelOpsError, match="python_runtime_limit_s"):
        make(place / "other", "alpha==1.0 --hash=sha256:00", place, limit_s=0)


def test_folders_that_are_not_ours(place):
    (place / "mine").mkdir()
    (place / "mine/letter.txt").write_text("dear")
    with pytest.raises(ModelOpsError, match=r"no virtual environment, and holds letter\.txt"):
        make(place / "mine", "", place)
    assert (place / "mine/letter.txt").read_text() == "dear"
    with pytest.raises(ModelOpsError, match="not the Python of a virtual environment"):
        make(place, "", place, python=str(place / "python3"))
    itself = str(Path(venv.sys.prefix) / "bin/python3")
    with pytest.raises(ModelOpsError, match="cannot make itself"):
        make(place, "", place, python=itself)


@pytest.mark.parametrize(("driver", "gpu"), [("echo GPU 0: RTX", True), ("exit 9", False)])
def test_the_packages_for_a_gpu(place, monkeypatch, driver, gpu):
    tool = place / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{driver}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    alpha, beta = wheel(place, "alpha", "1.0", one="1\n"), wheel(place, "beta", "1.0")
    done = make(place / "venv", alpha, place, check_mode=True, requirements_gpu=beta)
    assert done["gpu"] == gpu and list(done["packages"]) == ["beta" if gpu else "alpha"]
    assert not make(
        place / "venv", alpha, place, True, requirements_gpu=beta, accelerator="cpu"
    )["gpu"]  # fmt: skip
