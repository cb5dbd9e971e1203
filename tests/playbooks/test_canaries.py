"""Secrets of an inventory, of sarai.yaml, a service and a key: shown nowhere and left nowhere.

Every playbook runs at -vvv --diff with canaries where secrets may stand.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canaries import CANARY, Watch
from conftest import ROOT, Site

SHOWN = "-vvv --diff"
PLAYBOOKS = [
    "playbooks/keys.yml", "quantize.yml", "rollback.yml", "playbooks/preflight.yml",
    "playbooks/status.yml", "playbooks/diagnose.yml", "playbooks/support_bundle.yml",
    "playbooks/acceptance.yml",
]  # fmt: skip
# What needs root: see test_linux_canaries.py.
ROOTS = {"playbooks/setup_target.yml", "playbooks/setup_acceptance.yml"}
# A service that tells its secrets: in its answers, and in its journal.
SERVICE = """
import http.server, json, os, sys
refuses = len(sys.argv) > 2 and os.path.exists(sys.argv[2])
print("INFO starting with api_token={canary} and Authorization: Bearer {canary}", flush=True)
print("INFO db is postgres://noel:{canary}@db/x", flush=True)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = {{"status": "BROKEN" if refuses else "HEALTHY", "password": "{canary}"}}
        self.say(500 if refuses else 200, body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say(200, {{"values": [1.0, 2.0, 3.0], "secret": "{canary}"}})
    def say(self, code, body):
        text = json.dumps(body).encode()
        self.send_response(code, "password={canary}" if refuses else None)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
NEIGHBOURS = f"""\
api:
  token: {CANARY}
  url: https://noel:{CANARY}@example.org
"""


class Secretive(Site):
    """A site with canaries."""

    port = 0

    @property
    def key(self) -> Path:
        return self.folder / "keys" / "ed25519"

    @property
    def bundle(self) -> Path:
        return self.folder / "support.tar.gz"

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    def inventory(self) -> dict[str, Any]:
        found = super().inventory()
        url = f"http://127.0.0.1:{self.port}"
        start = [sys.executable, str(self.folder / "service.py"), str(self.port)]
        found["all"]["vars"] |= {
            # As a vault gives them.
            "ansible_password": CANARY, "ansible_become_password": CANARY,
            "vault_builder_password": CANARY, "report_dir": str(self.folder / "reports"),
            "preflight_json": str(self.folder / "preflight.json"),
            "diagnose_json": str(self.folder / "diagnosis.json"),
            "ansible_remote_tmp": str(self.temporary / "remote"),
            "ansible_async_dir": str(self.temporary / "async"),
            "sarai_service_manager": "command",
            "sarai_service_commands": {"start": [*start, str(self.folder / "fault")]},
            "sarai_service_health_url": f"{url}/health?api_key={CANARY}",
            "sarai_service_health_expect": {"status": "HEALTHY"},
            "sarai_service_question": {
                "url": f"{url}/infer?token={CANARY}", "field": "values",
                "body": {"seed": 1, "api_key": CANARY, "more": [{"deep": CANARY}]},
            },
            "sarai_service_start_s": 10, "sarai_service_min_healthy_s": 0.1,
            "notify_webhooks": [f"{url}/hook?token={CANARY}"], "notify_secret": CANARY,
            "diagnose_bundle": str(self.bundle),
            "sign_key": str(self.key), "ansible_become": False,  # the folders below are no root's
        }  # fmt: skip
        return found

    def given(self) -> dict[str, Any]:
        etc, var = str(self.folder / "etc"), str(self.folder / "var")
        return {"__sarai_trust_dir": etc, "__sarai_serials_dir": var}

    def holders(self, word: str) -> set[Path]:
        """The files of the site that hold a word."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path for path in files if word.encode() in path.read_bytes()}


@pytest.fixture
def site(tmp_path, sampled, monkeypatch) -> Iterator[Secretive]:
    site = Secretive(tmp_path / "site")
    shutil.copytree(sampled, site.folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        site.port = free.getsockname()[1]
    (site.folder / "service.py").write_text(SERVICE.format(canary=CANARY))
    site.config().write_text(site.config().read_text() + NEIGHBOURS)
    site.config().chmod(0o600)
    monkeypatch.setenv("ANSIBLE_LOCAL_TEMP", str(site.temporary / "local"))
    (site.temporary / "tmp").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(site.temporary / "tmp"))
    yield site
    end(site)


def end(site: Secretive) -> None:
    """End the service: the process that was started with this site's program."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(site.folder / "service.py").encode() in words and words[0]:
            os.kill(int(process.name), 15)


def test_every_playbook_is_run_here():
    entries = {path.name for path in ROOT.glob("*.yml") if path.read_text().count("playbook:")}
    own = [f"playbooks/{path.name}" for path in (ROOT / "playbooks").glob("*.yml")]
    parts = {"playbooks/begin.yml", "playbooks/reach.yml", *(f"playbooks/{n}" for n in entries)}
    assert entries | set(own) - parts - ROOTS == set(PLAYBOOKS)


def test_no_secret_is_shown_or_left(site):
    outcomes = {}
    with Watch() as watch:
        (site.folder / "fault").touch()
        outcomes["refused"] = site.run("quantize.yml", SHOWN, sample_enabled=False, sign_key="")
        (site.folder / "fault").unlink()
        for playbook in PLAYBOOKS:
            outcomes[playbook] = site.run(playbook, SHOWN, sample_enabled=False)
    refused = outcomes.pop("refused")
    assert refused.rc != 0 and "[hidden]" in refused.output
    for playbook, outcome in outcomes.items():
        wrong = (0, 2) if playbook.endswith("diagnose.yml") else (0,)  # 2: it found something
        assert outcome.rc in wrong, f"{playbook}: {outcome.output}"
    key = site.key.read_text().splitlines()[-2]  # a line that no other key has
    for outcome in (refused, *outcomes.values()):
        lines = outcome.output.splitlines()
        assert [line for line in lines if CANARY in line or key in line] == []
    assert watch.looks > 50 and watch.seen == set()
    with tarfile.open(site.bundle) as bundle:
        bundle.extractall(site.folder / "bundle", filter="data")
    # What is meant to hold it: the owner's file, the texts of it that lead back, and his own log.
    config, store = site.config(), site.store()
    known = {config, config.with_name(f"{config.name}.before-agi_audio_core_int8")}
    known |= {site.folder / "service.py", store / "service.log"}
    known |= {store / "answers.json", *(store / "config").iterdir()}
    assert site.holders(key) == {site.key}
    holders = site.holders(CANARY)
    assert site.config() in holders and holders <= known
    for path in holders - {site.folder / "service.py"}:
        allowed = 0o640 if path.name == "service.log" else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == allowed, path
    reports = list((site.folder / "reports").glob("*/report.*"))
    assert len(reports) >= 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in reports} == {0o640}
