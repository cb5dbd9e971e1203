"""A forged state.json: no foreign path is touched, and the way back to FP32 stays open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import models
import pytest
from modelops.base.errors import ModelOpsError
from modelops.target import activation, change, rollback, self_revert, watcher
from target import Target

ID = "0123456789abcdef"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def target(tmp_path) -> Target:
    made = Target(tmp_path / "home")
    made.release("A")
    listed = made.arrive("B")
    made.stage(listed)
    made.activate(listed["release_id"])
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("m_int8.onnx", "m_int8.onnx.data", "sarai.yaml"):
        (victim / name).write_text("his")
    return made


def forge(target: Target, **fields) -> None:
    state = json.loads(target.store.state_file.read_text())
    target.store.state_file.write_text(json.dumps(state | fields))


def move(**fields) -> dict:
    return {"in": None, "out": None, "names": ["m_int8.onnx"], "config": "?"} | fields


FORGED = [
    {"pending": move(**{"in": "../../../../../victim"})},
    {"pending": move(out="../../../../../victim")},
    {"pending": move(out="damaged-../x")},
    {"pending": move(**{"in": ID + "\n"})},
    {"pending": move(**{"in": ["a"]})},
    {"pending": move(names=[1])},
    {"pending": move(names="m_int8.onnx")},
    {"pending": move(config="/etc/passwd")},
    {"pending": move(config=7)},
    {"live": "../../../../../victim"},
    {"active": "/victim"},
    {"active": ""},
    {"last_good": "../victim"},
    {"before": {"active": "../../../../../victim", "live": None}},
    {"before": {"active": "fp32", "live": "/victim"}},
    {"before": {}},
    {"before": None},
    {"void": {"../x": "why"}},
    {"void": {ID: 1}},
    {"history": [{"release": 1}]},
    {"deadline": "soon"},
    {"confirmed": True},
    {"confirmed": True, "before": None},
    {"confirmed": True, "before": None, "deadline": None},
    {"confirmed": False, "active": "fp32"},
]


def forge_with_its_path(target: Target, fields: dict) -> None:
    if "pending" in fields and fields["pending"]["config"] == "?":
        fields = {"pending": fields["pending"] | {"config": str(target.config)}}
    forge(target, **fields)


@pytest.mark.parametrize("fields", FORGED, ids=str)
def test_at_the_timer_it_tells_of_no_commit_and_fp32_comes_back(target, tmp_path, fields):
    forge_with_its_path(target, fields)
    forged = target.store.state_file.read_bytes()
    store = str(target.root), target.store.name
    assert self_revert.main(["due", *store]) == self_revert.main(["revert", *store]) == 0
    assert target.in_service() == "fp32"
    (aside,) = target.store.releases.glob("state.json.broken-*")
    assert aside.read_bytes() == forged
    last = target.store.load()["history"][-1]
    assert (last["event"], last["release"]) == ("rolled back", "fp32")
    assert "the state is not usable" in last["reason"]
    assert {path.read_text() for path in (tmp_path / "victim").iterdir()} == {"his"}
    assert self_revert.main(["due", *store]) == 1


def test_a_broken_state_without_a_known_way_back_stays(target, tmp_path):
    (target.store.texts / "path").unlink()
    target.store.state_file.write_text("{")
    before = models.tree(tmp_path)
    assert self_revert.main(["due", str(target.root), target.store.name]) == 0
    assert self_revert.main(["revert", str(target.root), target.store.name]) == 3
    assert models.tree(tmp_path) == before


@pytest.mark.parametrize("fields", FORGED, ids=str)
def test_it_is_refused_and_fp32_comes_back(target, tmp_path, fields):
    forge_with_its_path(target, fields)
    before = models.tree(tmp_path)
    config, to = target.plan_without_state(), next(iter(target.pairs))
    back = {"by": "test", "reason": "", "void": False}
    for refused in (
        lambda: change.recover(target.store) or target.revert(with_plan=False),
        lambda: activation.activate(target.store, to, config, previous={}, confirm_s=60, by="test"),
        lambda: rollback.roll_back(target.store, "last_good", config, **back),
    ):
        with pytest.raises(ModelOpsError, match="state is not usable"):
            refused()
    assert models.tree(tmp_path) == before
    rollback.roll_back(target.store, "fp32", config, **back)
    assert target.in_service() == "fp32"
    assert {path.read_text() for path in (tmp_path / "victim").iterdir()} == {"his"}


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a\n/b", "", b"/\xff"])
def test_a_configuration_that_is_no_path(target, path):
    (target.store.texts / "path").write_bytes(path if isinstance(path, bytes) else path.encode())
    assert self_revert.main(["revert", str(target.root), target.store.name]) == 3
    target.roll_back()
    assert target.in_service() == "fp32"


def test_a_watch_of_another_store(target, tmp_path, capsys):
    other = Target(tmp_path / "other")
    other.store.releases.mkdir(parents=True)
    order = {"id": "1", "root": str(target.root), "model": "m", "confirm_s": 0,
             "service": {"name": "s", "commands": {"start": "touch ran"}}}  # fmt: skip
    path = other.store.releases / watcher.ORDER
    path.write_text(json.dumps(order))
    before = target.config.read_bytes()
    assert self_revert.main(["watch", str(path), "1"]) == 3
    assert "another folder" in capsys.readouterr().err
    assert target.config.read_bytes() == before


@pytest.mark.parametrize("wrong", ["mode", "owner"])
def test_the_program_that_root_runs_is_roots(tmp_path, wrong):
    folder = tmp_path / "lib"
    folder.mkdir(mode=0o755)
    path = folder / "modelops" / "revert.pyz"
    assert self_revert.place(path, check_mode=True)["changed"] and not path.parent.exists()
    assert self_revert.place(path)["changed"] and not self_revert.place(path)["changed"]
    assert path.stat().st_mode & 0o777 == 0o644 and path.stat().st_uid == os.geteuid()
    path.chmod(0o666)
    kept = path.open("r+b")
    assert self_revert.place(path)["changed"], "others may have it open"
    with kept:
        kept.write(b"forged")
    assert path.read_bytes() == self_revert.archive()
    if wrong == "owner" and os.geteuid():
        pytest.skip("only root gives folders away")
    folder.chmod(0o775) if wrong == "mode" else os.chown(folder, 12345, 12345)
    with pytest.raises(ModelOpsError, match="root would run") as raised:
        self_revert.place(path)
    assert raised.value.where == str(folder)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root becomes another")
def test_root_has_the_rights_of_whoever_owns_the_store():
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        target = Target(home / "home")
        listed = target.arrive("A")
        target.stage(listed)
        target.activate(listed["release_id"])
        program = home / "revert.pyz"
        self_revert.place(program)
        for path in (home / "home", *(home / "home").rglob("*")):
            os.chown(path, 12345, 12345)
        command = [sys.executable, "-I", "-S", program, "revert", target.root, "m"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "write state.json" in done.stdout
        assert target.store.state_file.stat().st_uid == 12345
        assert target.config.stat().st_uid == 12345 and target.in_service() == "fp32"


def test_the_unit_of_root_runs_nothing_of_the_deploy_user():
    texts = (ROOT / "roles/sarai_service/vars/main.yml").read_text()
    prepare = (ROOT / "roles/sarai_service/tasks/systemd/prepare.yml").read_text()
    unit = (ROOT / "roles/sarai_service/templates/modelops-revert.service.j2").read_text()
    assert "'/usr/local/lib/modelops/'" in texts and "state: armed" in prepare
    assert "__sarai_store" not in unit
