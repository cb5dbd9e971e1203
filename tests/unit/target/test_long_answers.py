"""A service that answers without an end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from modelops.base.errors import ModelOpsError
from modelops.target import service, service_answer


@pytest.fixture
def endless():
    """Servers on loopback that say a piece again and again until nobody listens."""
    with contextlib.ExitStack() as held:

        def serve(piece: bytes, pause_s: float) -> str:
            listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))

            def answer() -> None:
                with contextlib.suppress(OSError):
                    link, _ = listener.accept()
                    with link:
                        link.recv(9999)
                        link.sendall(b"HTTP/1.0 200 OK\r\n\r\n[")
                        while True:
                            link.sendall(piece)
                            time.sleep(pause_s)

            threading.Thread(target=answer, daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}/"

        yield serve


@pytest.mark.parametrize(("piece", "pause_s"), [(b" " * 65536, 0), (b" ", 0.02)])
def test_it_is_left(endless, monkeypatch, piece, pause_s):
    monkeypatch.setattr(service_answer, "LONGEST", 1 << 20)
    monkeypatch.setattr(service, "PROBE_TIMEOUT_S", 0.5)
    with pytest.raises(ModelOpsError, match="no usable answer"):
        service_answer.ask(endless(piece, pause_s), {}, "", 0.5)
    service_answer.wake(endless(piece, pause_s), {}, 0.5)
    assert service.probe(endless(piece, pause_s), {"status": "ok"})
