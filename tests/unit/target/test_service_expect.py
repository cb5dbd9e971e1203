"""What the answer of the health check must hold, beside its 200."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from modelops.target import service

SAID = {"status": "WARNING", "models": [{"loaded": True}], "errors": 1, "free": None}


class Health(BaseHTTPRequestHandler):
    """Answers 200 with whatever the test says."""

    reply = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.reply)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Health.reply = json.dumps(SAID).encode()
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/health"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "expect",
    [
        {},
        {"status": "WARNING"},
        {"status": ["HEALTHY", "WARNING"], "errors": 1},
        {"models.0.loaded": True, "free": None},
    ],
)
def test_as_expected(url: str, expect: dict[str, Any]) -> None:
    assert service.probe(url, expect) == ""


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ({"status": "HEALTHY"}, 'status is "WARNING", not "HEALTHY"'),
        ({"status": ["HEALTHY", "OK"]}, 'not "HEALTHY" or "OK"'),
        ({"status": "WARNING", "errors": True}, "errors is 1, not true"),
        ({"models.1.loaded": True}, "it has no models.1.loaded"),
        ({"status.deeper": 1, "gone": 1}, "it has no status.deeper; it has no gone"),
    ],
)
def test_not_as_expected(url: str, expect: dict[str, Any], words: str) -> None:
    problem = service.probe(url, expect)
    assert words in problem
    assert json.dumps(SAID) in problem  # what it said besides may be the reason


def test_an_answer_that_is_no_json(url: str) -> None:
    Health.reply = b"<html>" + b"x" * 1000
    assert service.probe(url) == ""
    problem = service.probe(url, {"status": "HEALTHY"})
    assert "no JSON" in problem and len(problem) < 500
