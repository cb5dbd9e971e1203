"""playbooks/acceptance.yml: samples are held against what was promised."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import sampler as samplers

FP32 = "models/onnx/agi_audio_core.onnx"


def keep(site, said: list[dict[str, Any]]) -> None:
    """Let the target have these samples."""
    folder = site.folder / "samples"
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in said)
    (folder / "samples-00000001.jsonl").write_text(text)


def accept(site, *arguments: str, **variables: Any):
    given = {"__acceptance_folder": str(site.folder / "samples"), "acceptance_every_s": 3600}
    return site.run("playbooks/acceptance.yml", *arguments, **given | variables)


def verdicts(site, number: int = 0) -> dict[str, str]:
    found = json.loads((site.folder / "reports/acceptance/acceptance.json").read_text())
    return {row["name"]: row["verdict"] for row in found["hosts"][number]["rows"]}


def test_promises_are_judged_and_shown(site):
    listed = site.folder / "complaints.csv"
    listed.write_text("date,host,text\n")
    keep(site, samplers.month(time.time()))
    told = {"acceptance_complaints_file": str(listed)}
    checked = accept(site, "--check", **told)
    assert checked.rc == 0, checked.output
    assert not (site.folder / "reports").exists()
    done = accept(site, **told)
    assert done.rc == 0, done.output
    without_a_set = dict.fromkeys(("wer", "mos", "emotion_accuracy"), "not measured")
    found = verdicts(site)
    assert without_a_set.items() <= found.items() and len(found) == 9
    assert {verdict for name, verdict in found.items() if name not in without_a_set} == {"pass"}
    assert "latency P50" in done.output and "probe question" in done.output
    pages = {path.suffix for path in (site.folder / "reports/acceptance").iterdir()}
    assert pages == {".html", ".md", ".json"}
    again = accept(site, **told)
    assert again.rc == 0 and not any(again.changed.values()), again.changed_tasks()


def test_a_broken_promise_ends_with_an_exit_code_and_changes_nothing(site):
    said = samplers.month(time.time())
    said[-3] |= {"deaths": {"oom-kill": 1}, "out_of_memory": 1}
    keep(site, said)
    told = site.folder / "prom"
    told.mkdir()
    done = accept(site, notify_textfile_dir=str(told))
    assert done.rc == 2, done.output
    [event] = told.iterdir()
    assert 'event="promise_broken"' in event.read_text()
    broken = {"out_of_memory": "fail", "crashes": "fail", "complaints": "not measured"}
    assert broken.items() <= verdicts(site).items()
    assert [task for _, task in done.changed_tasks()] == ["Write a file a host"]


def test_a_target_without_a_sampler_is_not_measured(site):
    done = accept(site)
    assert done.rc == 0, done.output
    assert set(verdicts(site).values()) == {"not measured"}
    assert "setup_acceptance.yml" in done.output


def test_a_target_that_is_down_is_told_and_the_others_are_judged(site, monkeypatch):
    site.targets = 2
    keep(site, samplers.month(time.time()))
    inventory = site.inventory()
    down = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    inventory["all"]["children"]["targets"]["hosts"]["target2"] |= down
    monkeypatch.setattr(type(site), "inventory", lambda self: inventory)
    done = accept(site)
    assert done.rc != 0 and "target2: it did not answer" in " ".join(done.output.split())
    assert verdicts(site)["crashes"] == "pass"
    assert verdicts(site, 1)["crashes"] == "not measured"


def test_the_release_that_broke_a_promise_is_rolled_back_where_that_is_asked_for(live):
    release = live.state()["active"]
    now = time.time()
    keep(live, samplers.month(now, release=release, memory_bytes=None, deaths={"signal": 1}))
    done = accept(live, acceptance_on_failure="rollback")
    assert done.rc == 2, done.output
    assert (live.state()["active"], live.named_model()) == ("fp32", FP32)
    assert "a promise was broken" in live.state()["void"][release]

    # The samples still tell of a release that is not in service any more: nothing is rolled back.
    again = accept(live, acceptance_on_failure="rollback")
    assert again.rc == 2 and not any(again.changed.values()), again.changed_tasks()


class Service(BaseHTTPRequestHandler):
    """Understands each recording as the text that it holds."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text, emotion = base64.b64decode(body["audio"]).decode().split("|")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"text": text, "mood": {"label": emotion}}).encode())

    def log_message(self, *given):
        pass


def test_an_evaluation_set_is_asked(site):
    keep(site, samplers.month(time.time()))
    recordings = site.folder / "set"
    recordings.mkdir()
    (recordings / "a.wav").write_text("que tal|calm")
    (recordings / "b.wav").write_text("hasta mañana|sad")
    said = "file,text,emotion\na.wav,¡Que tal!,calm\nb.wav,Hasta mañana,sad\n"
    (recordings / "transcripts.csv").write_text(said)
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        question = {
            "url": f"http://127.0.0.1:{server.server_port}", "body": {"audio": "{audio}"},
            "text": "text", "emotion": "mood.label",
        }  # fmt: skip
        told = {"acceptance_set_dir": str(recordings), "acceptance_set_question": question}
        first, again = accept(site, **told), accept(site, **told)
        server.shutdown()
    assert first.rc == 0, first.output
    kept = {"wer": "pass", "emotion_accuracy": "pass", "mos": "not measured"}
    assert kept.items() <= verdicts(site).items()
    assert [task for _, task in first.changed_tasks()] == ["Bring the recordings to the target"]
    assert again.rc == 0 and not any(again.changed.values()), again.changed_tasks()
