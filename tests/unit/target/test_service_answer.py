"""The service's own answer: kept on FP32, compared on INT8."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from modelops.base.errors import ModelOpsError
from modelops.execution import without_ansible
from modelops.target import service_answer


class Service(BaseHTTPRequestHandler):
    """Answers with whatever the test says."""

    reply: object = None
    code = 200

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked == {"seed": 1}
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(json.dumps(type(self).reply).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def url():
    Service.code = 200
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/infer"
        server.shutdown()
        thread.join()


@pytest.fixture
def answer(url, tmp_path):
    module = without_ansible.load("service_answer")
    fixed = {"url": url, "body": {"seed": 1}, "field": "a.0", "cosine_min": 0.98, "timeout_s": 5}
    fixed |= {"record": str(tmp_path / "answers.json"), "key": [{"sha256": "1"}]}
    return lambda state, check=False, **more: module.run({**fixed, "state": state, **more}, check)


def test_kept_on_fp32_and_compared_on_int8(answer, tmp_path):
    Service.reply = {"a": [[1.0, 2.0, 3.0]]}
    assert answer("recorded", check=True)["changed"] and not list(tmp_path.iterdir())
    assert answer("recorded")["changed"]
    kept = (tmp_path / "answers.json").read_bytes()
    Service.reply = {"a": [[1.01, 1.99, 3.0]]}
    assert not answer("recorded")["changed"]
    assert (tmp_path / "answers.json").read_bytes() == kept
    near = answer("right")
    assert near["compared"] and 0.999 < near["cosine"] < 1
    Service.reply = {"a": [[3.0, 2.0, -1.0]]}
    with pytest.raises(ModelOpsError, match=r"something else than on FP32: cosine 0\.2857"):
        answer("right")
    Service.reply = {"a": [[1.0, 2.0]]}
    with pytest.raises(ModelOpsError, match="2 numbers where FP32's has 3"):
        answer("right")
    assert not answer("right", key=[{"sha256": "2"}])["compared"]  # another model's answer


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"a": []}, "no 'a.0'"),
        ({"b": 1}, "no 'a.0'"),
        ({"a": [[]]}, "no list with something in it"),
        ({"a": [["1"]]}, "something else than numbers"),
        ({"a": [[float("nan")]]}, "not finite"),
    ],
)
def test_an_answer_that_is_none(answer, reply, words):
    Service.reply = reply
    assert words in answer("recorded")["problem"]
    with pytest.raises(ModelOpsError, match=words):
        answer("right")


def test_no_answer(answer):
    Service.code = 500
    assert "no usable answer (HTTP Error 500" in answer("recorded")["problem"]
    with pytest.raises(ModelOpsError, match="HTTP Error 500"):
        answer("right")


def test_cosine():
    assert service_answer.cosine([0.0, 0.0], [0.0, 0.0]) == 1
    assert service_answer.cosine([0.0, 0.0], [1.0, 0.0]) == 0
    assert service_answer.cosine([1.0, 2.0], [-2.0, -4.0]) == pytest.approx(-1)
