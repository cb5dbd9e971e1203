"""A set of recordings is asked, and what was understood is held against what was said."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.acceptance import evaluation, questions
from modelops.base.errors import ModelOpsError

SAID = "file,text,emotion\na.wav,¿Qué tal?,alegría\nb.wav,Hasta mañana.,tristeza\n"


def answer(file, text="", emotion="", problem=""):
    return {"file": file, "text": text, "emotion": emotion, "problem": problem}


def heard(*rows):
    return evaluation.figures([answer(*row) for row in rows], SAID)


def test_signs_and_case_are_no_errors_and_accents_are():
    right = heard(("a.wav", "qué TAL", "Alegría"), ("b.wav", "¡hasta, mañana!", "tristeza"))
    assert (right["wer"], right["emotion_accuracy"], right["silent"]) == (0, 1, 0)
    wrong = heard(("a.wav", "que tal", "tristeza"), ("b.wav", "hasta mañana", "tristeza"))
    assert (wrong["wer"], wrong["emotion_accuracy"]) == (1 / 4, 1 / 2)
    assert wrong["confusion"] == [["alegría", "tristeza", 1], ["tristeza", "tristeza", 1]]


@given(st.text(max_size=30))
def test_the_words_of_a_text_count_once_normal(text):
    once = evaluation.normal(text)
    assert evaluation.normal(once) == once or not once.isascii()
    assert evaluation.normal("n\u0303 a\u0301") == "ñ á"


def test_a_recording_without_an_answer_counts_as_not_understood():
    found = heard(("a.wav", "", "", "no usable answer"), ("b.wav", "hasta mañana", "tristeza"))
    assert (found["wer"], found["silent"], found["emotion_accuracy"]) == (1 / 2, 1, 1 / 2)
    assert ["alegría", "nothing", 1] in found["confusion"]


def test_the_mean_opinion_has_its_bounds():
    rows = [answer("a.wav", "x"), answer("b.wav", "y")]
    listed = "file,listener,score\n" + "".join(f"a.wav,l{i},{4 + i % 2}\n" for i in range(100))
    mos = evaluation.figures(rows, SAID, listed)["mos"]
    assert mos["value"] == 4.5 and 4.4 < mos["low"] < 4.5 < mos["high"] < 4.6
    one = evaluation.figures(rows, SAID, "file,listener,score\na.wav,l,5\n")
    assert (one["mos"], one["scores"]) == (None, 1)


@pytest.mark.parametrize(
    ("said", "listed"),
    [
        ("", ""),
        ("name,words\n", ""),
        ("file,text\na.wav,hola\n", ""),
        ("file,text\na.wav,hola\nb.wav,hola\nc.wav,hola\n", ""),
        ("file,text\na.wav,hola\na.wav,hola\n", ""),
        ("file,text\na.wav,¿?\nb.wav,hola\n", ""),
        ("file,text\na.wav,hola,a,b\nb.wav,hola\n", ""),
        (SAID, "file,listener,score\na.wav,l,6\n"),
        (SAID, "file,listener,score\na.wav,l,nan\n"),
        (SAID, "file,score\na.wav,4\n"),
    ],
)
def test_lists_that_are_none_are_refused(said, listed):
    with pytest.raises(ModelOpsError, match=r"acceptance\.md"):
        evaluation.figures([answer("a.wav", "x"), answer("b.wav", "y")], said, listed)


class Service(BaseHTTPRequestHandler):
    """Answers a.wav, says nothing usable of b.wav and fails at c.wav."""

    asked: list = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        name = body["about"]["name"]
        said = {"out": {"text": "hola\x1b[2J " * 1000}, "mood": ["calm"]}
        self.send_response(500 if name == "c.wav" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(said if name == "a.wav" else {}).encode())

    def log_message(self, *given):
        pass


def test_each_recording_is_asked_by_the_template(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    Service.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        question = {
            "url": f"http://127.0.0.1:{server.server_port}",
            "body": {"audio": "{audio}", "about": {"name": "{file}", "n": 1}},
            "text": "out.text",
            "emotion": "mood.0",
        }
        found = questions.ask_all(tmp_path, question)
        server.shutdown()
    assert [base64.b64decode(one["audio"]).decode() for one in Service.asked] == [
        "a.wav", "b.wav", "c.wav",
    ]  # fmt: skip
    assert [bool(one["problem"]) for one in found] == [False, True, True]
    assert found[0]["emotion"] == "calm"
    assert found[0]["text"].startswith("hola hola") and len(found[0]["text"]) == 2000


def test_a_set_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelOpsError, match="0 recordings"):
        questions.ask_all(tmp_path, {})
    (tmp_path / "a.wav").symlink_to("/etc/hostname")
    with pytest.raises(ModelOpsError, match="symbolic link"):
        questions.ask_all(tmp_path, {"url": "http://127.0.0.1:1"})
