"""Others are told of a release and of a rollback, and whatever they answer stops nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

KEY = "una clave"


class Hook(ThreadingHTTPServer):
    """A webhook that refuses its first call, and keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.got: list[tuple[str, bytes]] = []
        self.states = [503]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?token=GEHEIM"

    def told(self) -> list[dict[str, Any]]:
        for signed, body in self.got:
            assert signed == "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
        return [json.loads(body) for _, body in self.got]


class Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        state = self.server.states.pop() if self.server.states else 204
        if state == 204:
            self.server.got.append((self.headers["X-ModelOps-Signature"], body))
        self.send_response(state)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_rollback_and_a_release_are_told(live, hook):
    folder = live.folder / "prometheus"
    folder.mkdir()
    dead = "http://127.0.0.1:1/dead?token=GEHEIM"
    given = {
        "notify_webhooks": [dead, hook.url],
        "notify_secret": KEY,
        "notify_retries": 1,
        "notify_delay_s": 1,
        "notify_textfile_dir": str(folder),
    }
    release = live.state()["active"]
    back = live.run("rollback.yml", "-vvv", **given)
    assert back.rc == 0, back.output
    (told,) = hook.told()
    (event,) = told["events"]
    assert (event["event"], event["release"], event["active"]) == ("rolled_back", release, "fp32")
    assert "webhook 1 of 2 was not told: it did not answer" in back.output
    assert "webhook 2 of 2" not in back.output
    assert "GEHEIM" not in back.output
    (file,) = folder.iterdir()
    assert file.name == "modelops_agi_audio_core_target1.prom"
    assert 'event="rolled_back"' in file.read_text()

    given["notify_webhooks"] = [hook.url]
    given["notify_textfile_dir"] = str(live.folder / "nothing")
    out = live.run("quantize.yml", "--tags release", **given)
    assert out.rc == 0, out.output
    (event,) = hook.told()[-1]["events"]
    assert (event["event"], event["active"]) == ("released", release)
    assert "nothing was written into" in out.output
    again = live.run("quantize.yml", "--tags release", **given)
    assert again.rc == 0 and len(hook.told()) == 2, again.output
