"""Whether a service counts as healthy, seen over time. Real systemd: tests/hosts/linux."""

from __future__ import annotations

import itertools
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from modelops.base.errors import ModelOpsError
from modelops.target import service
from modelops.target.units import Systemd, Unit

UP = Unit("loaded", "active", "running", "success", 0, "one", 1, "")
STARTING = UP._replace(active="activating", sub="start")
DEAD = UP._replace(active="activating", sub="auto-restart", result="exit-code", restarts=1)
FAILED = UP._replace(active="failed", sub="failed", result="exit-code")
SILENT = "the health check does not answer"


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def watch(*seen: tuple[Unit, str, float], hold_s: float = 10, limit_s: float = 60) -> dict:
    """Wait while the service is as in `seen`, each until that second; the last one for good."""
    at = Time()

    def see() -> tuple[Unit, str]:
        unit, problem = next((u, p) for u, p, until in seen if at.now < until)
        return unit, problem or service._problem("sarai", unit)

    return service.wait_healthy(
        see, Systemd("sarai"), hold_s, limit_s, clock=at.clock, sleep=at.sleep
    )


EVER = float("inf")


def test_it_holds():
    found = watch((STARTING, "", 5), (UP, SILENT, 8), (UP, "", EVER))
    assert found["healthy"] and 7.9 < found["healthy_after_s"] < 8.3
    assert 10 <= found["held_s"] < 10.3


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ([(FAILED, "", EVER)], "it is failed"),
        ([(FAILED._replace(restarts=4), "", EVER)], "it died 5 times, and systemd gave up"),
        ([(STARTING, "", 2), (DEAD, "", EVER)], "died and was started again, 1 times"),
        ([(UP, "", 8), (DEAD, "", EVER)], "died and was started again"),
        ([(UP, "", 8), (UP, SILENT, EVER)], "it was healthy for 8.* s, then the health check"),
        ([(UP, SILENT, EVER)], "not healthy after 60 s: the health check does not answer"),
        ([(STARTING, "", EVER)], "not healthy after 60 s: it is activating"),
        ([(UP._replace(load="not-found", active="inactive"), "", EVER)], "knows no unit sarai"),
    ],
)
def test_it_does_not(seen, message):
    with pytest.raises(ModelOpsError, match=message) as caught:
        watch(*seen)
    assert "Its journal" in str(caught.value)


def test_restarts_before_ours_are_not_counted():
    """As after `systemctl restart` of a unit that was flapping: the count stays."""
    assert watch((UP._replace(restarts=9), "", EVER))["healthy"]
    with pytest.raises(ModelOpsError, match="died and was started again, 1 times"):
        watch((DEAD._replace(restarts=9), "", EVER))
    with pytest.raises(ModelOpsError, match="died and was started again, 2 times"):
        watch((UP._replace(restarts=9), "", 5), (UP._replace(restarts=11), "", EVER))


@pytest.mark.parametrize(("ago_s", "healthy"), [(5, False), (service.RECENT_S + 5, True)])
def test_a_service_that_keeps_dying_is_not_healthy_now(monkeypatch, ago_s, healthy):
    unit = UP._replace(restarts=3, pid=0, since_us=int((time.monotonic() - ago_s) * 1e6))
    monkeypatch.setattr(Systemd, "look", lambda self: unit)
    assert service.state(Systemd("sarai"), "")["healthy"] is healthy


def test_another_start_begins_anew():
    found = watch((UP, "", 6), (UP._replace(invocation="two"), "", EVER))
    assert found["healthy_after_s"] > 5.9


def test_the_health_check_is_asked():
    answers = itertools.cycle([503, 200])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(next(answers))
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/health"
        assert service.probe(url) == f"{url} answers 503"
        assert service.probe(url) == ""
        server.shutdown()
        thread.join()
    assert "does not answer" in service.probe(url)
    assert "does not answer" in service.probe("nonsense")


def test_without_systemd(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ModelOpsError, match="systemd does not answer"):
        Systemd("sarai").look()
    assert "journal holds nothing" in Systemd("sarai").told("")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a\nUser=root", "x" * 201])
def test_a_name_that_no_unit_has(name):
    with pytest.raises(ModelOpsError, match="cannot be the name of a unit"):
        Systemd(name)
