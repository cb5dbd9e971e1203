"""Root's helper: what it refuses; units, accounts and folders come from root's file alone."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import pwd
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.pair import manifest, names, received
from modelops.target import units

FILE = Path(__file__).resolve().parents[3] / "roles/setup_target/files/modelops_root.py"
ME = pwd.getpwuid(os.geteuid()).pw_name
RELEASE = "3f0a9c1d22b45e67"
BLOB = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))).decode()
KEY = f"ssh-ed25519 {BLOB}"
ARMED = ("is-active", "is-enabled")
NOW = 1_000_000_000.0


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("modelops_root", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLAIN = load()


class Host:
    """The helper with its places below a folder, and a systemd that only writes down."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.helper = folder, load()
        self.helper.SETTINGS, self.helper.KEYS = folder / "targets.d", folder / "keys"
        self.helper.ROOT = os.geteuid()
        self.helper.run = self.run
        clock = {"time": lambda: NOW, "gmtime": time.gmtime, "strftime": time.strftime}
        self.helper.time = SimpleNamespace(**clock)
        self.uploads = folder / "upload"
        for made in (self.helper.SETTINGS, self.helper.KEYS, self.uploads / "incoming"):
            made.mkdir(parents=True, mode=0o755)
        self.calls: list[list[str]] = []
        self.codes: dict[str, int] = {}
        self.said = {
            "unit": "sarai", "start_s": 60, "upload_user": ME, "upload_dir": str(self.uploads),
            "upload_s": 600, "upload_from": [],
        }  # fmt: skip
        self.settle()

    def run(self, command: list[str], limit_s: float = 0) -> subprocess.CompletedProcess[str]:
        self.calls.append([Path(command[0]).name, *command[1:]])
        return subprocess.CompletedProcess(command, self.codes.get(command[1], 0), "said", "no")

    def settle(self, **changes: Any) -> None:
        self.settings.write_text(json.dumps(self.said | changes))

    @property
    def settings(self) -> Path:
        return self.helper.SETTINGS / "m.json"

    @property
    def keys(self) -> list[str]:
        path = self.helper.KEYS / ME
        return path.read_text().splitlines() if path.exists() else []

    def ask(self, *words: str) -> dict[str, Any]:
        return self.helper.asked(["m", *words])

    def refused(self, *words: str, code: int = 1) -> str:
        with pytest.raises(self.helper.RefusedError) as error:
            self.ask(*words)
        assert error.value.code == code and self.calls == []
        return str(error.value)


@pytest.fixture
def host(tmp_path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        [], ["start"], ["arm", "sarai"], ["restart", "ssh"], ["journal", "-f"], ["check"],
        ["upload-open", RELEASE], ["upload-close"], ["arm", "--force"], ["check", "check", "arm"],
        ["upload-close", "../../victim"], ["upload-close", RELEASE.upper()],
        ["upload-close", RELEASE + "\n"], ["upload-remove", "."], ["upload-remove", ""],
        ["upload-open", RELEASE, KEY + "\nssh-ed25519 AAAA"], ["upload-open", RELEASE, BLOB],
        ["upload-open", RELEASE, f"{KEY} comment"], ["upload-open", RELEASE, "ssh-rsa " + BLOB],
        ["upload-open", RELEASE, f'command="x" {KEY}'],
        ["upload-open", RELEASE, "ssh-ed25519 " + "A" * 68],
    ],
)  # fmt: skip
def test_arguments_that_are_refused(host, words):
    host.refused(*words, code=2)
    assert host.keys == [] and list((host.uploads / "incoming").iterdir()) == []


@pytest.mark.parametrize("model", ["", "../m", "/etc/m", "-m", "m\n", "m;id", "a..b", "m/../m"])
def test_no_path_is_made_of_a_models_name(host, model):
    with pytest.raises(host.helper.RefusedError) as error:
        host.helper.asked([model, "arm"])
    assert error.value.code == 2


@given(st.text(max_size=20) | st.text("abm._-/\n ", max_size=12))
@example("m\n")
@example("a..b")
def test_what_a_run_takes_for_a_name_an_id_or_a_unit_the_helper_takes_too(text):
    with suppress(ModelOpsError):
        assert PLAIN.MODEL.fullmatch(names.check(text))
    assert bool(PLAIN.RELEASE.fullmatch(text)) == bool(manifest.RELEASE_ID.fullmatch(text))
    assert bool(PLAIN.UNIT.fullmatch(text)) == bool(units._NAME.fullmatch(text))
    assert received.public_key(KEY) == PLAIN.key(KEY)


def test_a_push_from_open_to_close(host):
    assert host.ask("check", "upload-open", RELEASE, KEY) == {"changed": True}
    assert host.keys == [] and not (host.uploads / "incoming" / RELEASE).exists()
    assert host.ask("upload-open", RELEASE, KEY) == {"changed": True}
    folder = host.uploads / "incoming" / RELEASE
    assert folder.stat().st_mode & 0o777 == 0o755 and folder.stat().st_uid == os.geteuid()
    (line,) = host.keys
    # 600 s after NOW, in UTC: sshd lets it in no longer, whatever became of the controller.
    assert line == f'restrict,expiry-time="20010909015640Z" {KEY} modelops:m:{RELEASE}'
    (folder / "a.part").write_bytes(b"half")
    host.ask("upload-open", RELEASE, KEY)  # it goes on
    assert (folder / "a.part").read_bytes() == b"half" and len(host.keys) == 1
    assert host.ask("check", "upload-close", RELEASE) == {"changed": True} and host.keys
    assert host.ask("upload-close", RELEASE) == {"changed": True}
    assert host.ask("upload-close", RELEASE) == {"changed": False} and host.keys == []
    assert host.ask("check", "upload-remove", RELEASE) == {"changed": True} and folder.exists()
    assert host.ask("upload-remove", RELEASE) == {"changed": True} and not folder.exists()
    assert host.ask("upload-remove", RELEASE) == {"changed": False}


def test_a_key_of_another_model_stays(host):
    host.ask("upload-open", RELEASE, KEY)
    (host.helper.SETTINGS / "n.json").write_text(json.dumps(host.said))
    host.helper.asked(["n", "upload-open", RELEASE, KEY])
    host.ask("upload-open", "0" * 16, KEY)  # of m only the newest
    assert sorted(line.rpartition(" ")[2] for line in host.keys) == [
        f"modelops:m:{'0' * 16}", f"modelops:n:{RELEASE}"
    ]  # fmt: skip
    host.ask("upload-close", RELEASE)
    assert len(host.keys) == 2


def test_a_key_may_come_from_the_builder_alone(host):
    host.settle(upload_from=["192.0.2.7", "2001:db8::/32"])
    host.ask("upload-open", RELEASE, KEY)
    assert 'from="192.0.2.7/32,2001:db8::/32" ssh-ed25519' in host.keys[0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("upload_user", "root\nx"), ("upload_user", "../root"), ("upload_user", None),
        ("upload_dir", "upload"), ("upload_dir", "/a/../b"), ("upload_dir", "/a b"),
        ("upload_dir", ""), ("upload_s", 0), ("upload_s", True), ("upload_s", "600"),
        ("upload_from", ['*",command="x']), ("upload_from", ["10.0.0.0/8 x"]),
    ],
)  # fmt: skip
def test_settings_that_no_line_is_made_of(host, setting, value):
    host.settle(**{setting: value})
    host.refused("upload-open", RELEASE, KEY)
    assert host.keys == []


@pytest.mark.parametrize("unit", ["", "-a", "a b", "a;b", "a\n", None, ["sarai"]])
def test_units_that_nothing_is_done_with(host, unit):
    host.settle(unit=unit)
    with pytest.raises(host.helper.RefusedError, match="cannot be the name of a unit"):
        host.ask("restart")
    assert all(call[-1] != unit for call in host.calls)


def _linked(host: Host) -> None:
    host.settings.rename(host.folder / "real")
    host.settings.symlink_to(host.folder / "real")


def _fifo(host: Host) -> None:
    host.settings.unlink()
    os.mkfifo(host.settings, 0o644)


@pytest.mark.parametrize(
    "spoil",
    [
        _linked, _fifo,
        lambda host: host.settings.unlink(),
        lambda host: host.settings.chmod(0o666),
        lambda host: host.settings.parent.chmod(0o777),
        lambda host: host.settings.write_text("{"),
        lambda host: host.settings.write_text(json.dumps({"unit": "x" * (65 << 10)})),
    ],
)  # fmt: skip
def test_a_file_that_root_alone_did_not_write_is_not_believed(host, spoil):
    spoil(host)
    host.refused("restart")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
@pytest.mark.parametrize("path", ["targets.d/m.json", "targets.d", "keys", "upload/incoming"])
def test_nor_one_that_is_another_accounts(host, path):
    os.chown(host.folder / path, 12345, 12345)
    host.refused("upload-open", RELEASE, KEY)
    assert not (host.uploads / "incoming" / RELEASE).exists()


def test_no_link_leads_it_elsewhere(host):
    victim = host.folder / "victim"
    victim.mkdir(mode=0o700)
    (victim / "file").write_text("kept")
    folder = host.uploads / "incoming" / RELEASE
    folder.symlink_to(victim)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        host.ask("upload-open", RELEASE, KEY)
    host.refused("upload-remove", RELEASE)
    assert victim.stat().st_mode & 0o777 == 0o700 and host.keys == []
    folder.unlink()
    folder.mkdir()
    (folder / "out").symlink_to(victim)
    host.ask("upload-remove", RELEASE)
    assert (victim / "file").read_text() == "kept" and not folder.exists()
    (host.helper.KEYS / ME).symlink_to(victim / "file")
    host.refused("upload-open", RELEASE, KEY)
    assert (victim / "file").read_text() == "kept"


def test_the_timer_is_the_models_own(host):
    host.codes = dict.fromkeys(ARMED, 3)
    assert host.ask("disarm") == {"changed": False}
    assert host.ask("check", "arm") == {"changed": True}
    assert {call[1] for call in host.calls} == set(ARMED)
    host.calls.clear()
    assert host.ask("arm") == {"changed": True}
    timer = "modelops-revert@m.timer"
    assert host.calls == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "--quiet", timer],
        ["systemctl", "restart", timer],
    ]
    host.codes = {"is-enabled": 1}
    assert host.ask("check", "disarm") == {"changed": True}
    assert host.ask("disarm") == {"changed": True}
    assert host.calls[-1] == ["systemctl", "disable", "--quiet", "--now", timer]
    host.codes = {"enable": 1}
    with pytest.raises(host.helper.RefusedError, match=r"systemctl enable .*: no"):
        host.ask("arm")


def test_the_service_is_the_one_of_roots_file(host):
    host.settle(unit="other")
    assert host.ask("check", "restart") == {"changed": True} and host.calls == []
    host.codes = {"restart": 1}  # its state tells that
    assert host.ask("restart") == {"changed": True}
    assert [call[1:] for call in host.calls[1:]] == [
        ["reset-failed", "other"],
        ["restart", "other"],
    ]
    assert host.ask("journal") == {"changed": False, "journal": "said"}
    assert host.calls[-1][-1] == "_SYSTEMD_INVOCATION_ID=said"


def test_it_answers_with_json_whatever_happens(host, capsys):
    assert host.helper.main(["m", "restart"]) == 0
    assert json.loads(capsys.readouterr().out) == {"changed": True}
    assert host.helper.main(["m", "unknown"]) == 2
    assert "usage" in json.loads(capsys.readouterr().out)["msg"]
    host.settle(upload_user="nobody-of-that-name")
    assert host.helper.main(["m", "upload-open", RELEASE, KEY]) == 1
    assert "nobody-of-that-name" in json.loads(capsys.readouterr().out)["msg"]


def test_the_callers_surroundings_do_not_reach_it(tmp_path):
    """-I leaves out the folder, the environment's modules and the user's own."""
    installs = (FILE.parents[1] / "tasks/present.yml").read_text()
    assert "          #!/usr/bin/python3 -I\n          {{ lookup(" in installs
    (tmp_path / "json.py").write_text("raise SystemExit('taken over')")
    done = subprocess.run(
        [sys.executable, "-I", "-S", FILE, "../m", "arm"], cwd=tmp_path, text=True,
        env={"PYTHONPATH": str(tmp_path)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "cannot be the name of a model" in done.stdout
    assert PLAIN.run(["/usr/bin/env"]).stdout.splitlines() == [
        f"{name}={value}" for name, value in PLAIN.CLEAN.items()
    ]
