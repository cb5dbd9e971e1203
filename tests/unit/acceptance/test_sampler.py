"""The sampler of a target: one file, run here as the timer would, on a host that is made up."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sampler as samplers
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from modelops.acceptance import samples

sampler = samplers.load()
UNIT, OWN = "sarai.service", "modelops-acceptance@m.service"


# ------------------------------------------------------------------ the ring


@settings(max_examples=examples(25))  # each sample is on the disk before the next
@given(
    steps=st.lists(st.integers(-200_000, 200_000), min_size=1, max_size=30),
    keep=st.integers(1, 4),
)
def test_the_ring_is_bounded_and_in_order_whatever_the_clock_does(tmp_path_factory, steps, keep):
    folder, at, written = tmp_path_factory.mktemp("ring"), 1e9, []
    for number, step in enumerate(steps):
        at += step
        one = samplers.sample(at, number)
        sampler.append(folder, one, keep)
        written.append(one)
        assert sampler.last(folder) == one
        assert len(sampler.ring(folder)) <= keep
    found, damaged = samples.read(folder)
    assert damaged == 0
    assert [s.at for s in found] == [one["at"] for one in written][-len(found) :]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} <= {0o640}


def test_a_day_and_a_size_begin_another_file(tmp_path, monkeypatch):
    for at in (0.0, 86399.0, 86400.0):
        sampler.append(tmp_path, samplers.sample(at), 9)
    assert len(sampler.ring(tmp_path)) == 2
    monkeypatch.setattr(sampler, "FILE_BYTES", 300)
    sampler.append(tmp_path, samplers.sample(86401.0), 9)
    assert len(sampler.ring(tmp_path)) == 3


@pytest.mark.parametrize("torn", [b'{"v":1,"at":', b"\xff\x00", b"[]\n", b'{"v":2}\n'])
def test_what_a_power_cut_left_of_a_line_is_left_out(tmp_path, torn):
    path = sampler.append(tmp_path, samplers.sample(1.0), 9)
    with path.open("ab") as handle:
        handle.write(torn)
    assert sampler.last(tmp_path)["at"] == 1.0
    sampler.append(tmp_path, samplers.sample(2.0), 9)
    found, damaged = samples.read(tmp_path)
    assert ([s.at for s in found], damaged) == ([1.0, 2.0], 1)


def test_a_link_in_place_of_the_file_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("")
    ring = tmp_path / "ring"
    ring.mkdir()
    (ring / "samples-00000001.jsonl").symlink_to(victim)
    with pytest.raises(OSError):
        sampler.append(ring, samplers.sample(1.0), 9)
    assert victim.read_text() == ""


# ------------------------------------------------------------------ systemd


def entry(number: int, unit: str = UNIT, **fields: str) -> dict[str, str]:
    return {"__CURSOR": f"s={number}", "UNIT": unit, **fields}


def journal(monkeypatch, told: list[dict[str, str]], cursor: str):
    asked = []
    monkeypatch.setattr(sampler, "entries", lambda *words: (asked.extend(words), iter(told))[1])
    return sampler.journal(UNIT, OWN, cursor), asked


def test_deaths_are_counted_by_their_fields_behind_the_cursor(monkeypatch):
    told = [
        entry(1, OWN),
        entry(2, MESSAGE_ID=sampler.OUT_OF_MEMORY),
        entry(3, MESSAGE_ID=sampler.FAILED, UNIT_RESULT="oom-kill"),
        entry(4, MESSAGE_ID=sampler.FAILED, UNIT_RESULT="exit-code"),
        entry(5, OWN, MESSAGE_ID=sampler.FAILED, UNIT_RESULT="timeout"),
        entry(6, MESSAGE="Failed with result 'signal'."),
    ]
    found, asked = journal(monkeypatch, told, "s=0")
    assert found == ({"oom-kill": 1, "exit-code": 1}, 1, "s=6")
    assert "--after-cursor=s=0" in asked
    assert asked[1:] == ["_PID=1", f"UNIT={UNIT}", "+", "_PID=1", f"UNIT={OWN}"]


def test_a_boot_is_what_the_journal_says():
    """A unit in a container of systemd-nspawn may see the boot of the machine below it."""
    assert sampler.boot("s=1;i=2;b=6bfcda92a7944d79ac8d6384e64c8f97;m=3") == (
        "6bfcda92a7944d79ac8d6384e64c8f97"
    )
    assert len(sampler.boot("")) == 36


def test_the_first_sample_finds_its_place_and_counts_nothing(monkeypatch):
    told = [entry(9, MESSAGE_ID=sampler.FAILED, UNIT_RESULT="signal")]
    found, asked = journal(monkeypatch, told, "")
    assert found == ({}, 0, "s=9")
    assert asked[0] == "--lines=1"


def test_a_journal_that_shows_nothing_is_no_count_of_zero(monkeypatch):
    assert journal(monkeypatch, [], "s=4")[0] == (None, None, "s=4")


def test_the_memory_is_the_cgroups_or_that_of_the_largest_process(tmp_path, monkeypatch):
    monkeypatch.setattr(sampler, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(sampler, "PROC", tmp_path / "proc")
    assert sampler.memory("", 0) is None
    group = tmp_path / "cgroup/system.slice/sarai.service"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("7\n8\n")
    for pid, kib in ((7, 1000), (8, 2000)):
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/status").write_text(f"Name:\tx\nVmRSS:\t {kib} kB\n")
    assert sampler.memory("/system.slice/sarai.service", 7) == 2000 << 10
    (group / "memory.stat").write_text("anon 4000000\nfile 9000000\nfile_mapped 500000\n")
    assert sampler.memory("/system.slice/sarai.service", 7) == 4_500_000
    (group / "memory.stat").unlink()
    old = tmp_path / "cgroup/memory/system.slice/sarai.service"
    old.mkdir(parents=True)
    (old / "memory.stat").write_text("total_rss 6000000\ntotal_mapped_file 1\n")
    assert sampler.memory("/system.slice/sarai.service", 7) == 6_000_001


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"active": "0123456789abcdef"}', "0123456789abcdef"),
        ('{"active": "fp32"}', "fp32"),
        ('{"active": "../../etc"}', ""),
        ('{"active": 7}', ""),
        ("[]", ""),
        ("{", ""),
    ],
)
def test_the_release_is_what_the_state_names(tmp_path, text, found):
    (tmp_path / "state.json").write_text(text)
    assert sampler.release(tmp_path / "state.json") == found
    assert sampler.release(tmp_path / "none.json") == ""


# ------------------------------------------------------------------ the service itself


class Service(BaseHTTPRequestHandler):
    asked: list = []
    gate = threading.Event()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        if self.path == "/hangs":
            self.gate.wait(20)
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with suppress(ConnectionError):  # nobody reads all of what is too long
            self.wfile.write(METRICS.encode() * (1 if self.path == "/metrics" else 10_000))

    def log_message(self, *given):
        pass


METRICS = """# TYPE sarai_latency_seconds histogram
sarai_latency_seconds_bucket{le="0.5",kind="a"} 3
sarai_latency_seconds_bucket{le="0.5",kind="b"} 4
sarai_latency_seconds_bucket{le="+Inf",kind="a"} 9 1700000000
sarai_cache_hits_total 12
sarai_cache_misses_total 4
sarai_response_latency_seconds {quantile="0.5"} 25.4
sarai_response_latency_seconds {quantile="0.9"} 40
sarai_bad NaN
sarai_worse +Inf
no metric at all
"""


@pytest.fixture
def url():
    Service.asked, Service.gate = [], threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Service.gate.set()
        server.shutdown()


def test_a_question_is_new_each_time_and_timed(url):
    question = {"url": f"{url}/infer", "body": {"in": {"seed": 1}}, "vary": "in.seed"}
    latency_s, answer = sampler.ask(question)
    assert answer == "ok" and latency_s > 0
    assert abs(Service.asked[0]["in"]["seed"] - time.time()) < 60
    assert sampler.ask({}) == (None, "")


def test_what_came_in_place_of_an_answer_is_told(url):
    assert sampler.ask({"url": f"{url}/broken"}) == (None, "status 500")
    assert sampler.ask({"url": f"{url}/hangs", "timeout_s": 0.2}) == (0.2, "slow")
    assert sampler.ask({"url": "http://127.0.0.1:1/"}) == (None, "no answer")
    wrong = {"url": url, "body": {"a": 1}, "vary": "b.c"}
    assert sampler.ask(wrong) == (None, "vary names no field of the body")


def test_its_own_figures_are_read_by_their_names(url):
    wanted = {
        "url": f"{url}/metrics",
        "latency": "sarai_latency_seconds",
        "cache_hits": "sarai_cache_hits_total",
        "cache_misses": "sarai_cache_misses_total",
    }
    found = {"cache_hits": 12.0, "cache_misses": 4.0, "buckets": [[0.5, 7.0], [None, 9.0]]}
    assert sampler.metrics(wanted) == found
    gauge = {"url": f"{url}/metrics", "latency": "sarai_response_latency_seconds"}
    assert sampler.metrics(gauge) == {"latency_p50_s": 25.4}
    for name in ("sarai_bad", "sarai_worse", "no_such"):
        assert sampler.metrics({"url": f"{url}/metrics", "cache_hit_rate": name}) == {}
    assert sampler.metrics(wanted | {"url": f"{url}/long"}) == {}
    assert sampler.metrics(wanted | {"url": "http://127.0.0.1:1/"}) == {}
    assert sampler.metrics({}) == {}


def test_a_whole_sample_is_one_that_the_controllers_side_reads(tmp_path, monkeypatch, url):
    """Nothing of the question or the answer is in it."""
    told = {"ActiveState": "active", "NRestarts": "2", "ControlGroup": "", "MainPID": "0"}
    monkeypatch.setattr(sampler, "show", lambda unit: told)
    monkeypatch.setattr(sampler, "entries", lambda *words: iter([entry(3, OWN)]))
    (tmp_path / "state.json").write_text('{"active": "fp32"}')
    settings = {
        "unit": UNIT, "own": OWN, "folder": str(tmp_path), "keep_files": 3,
        "state": str(tmp_path / "state.json"),
        "question": {"url": url, "body": {"token": "hunter2", "seed": 0}, "vary": "seed"},
        "metrics": {"url": f"{url}/metrics", "latency": "sarai_latency_seconds"},
    }  # fmt: skip
    monkeypatch.setattr(sampler.json, "load", lambda stream: settings)
    assert sampler.main() == 0
    [path] = sampler.ring(tmp_path)
    assert "hunter2" not in path.read_text()
    [found], damaged = samples.read(tmp_path)
    assert damaged == 0
    assert (found.release, found.restarts, found.deaths, found.answer) == ("fp32", 2, {}, "ok")
    assert found.fresh
    assert found.buckets[0] == (0.5, 7.0)
