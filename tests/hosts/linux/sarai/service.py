"""A stand-in for SARAi: a real service that loads the model of sarai.yaml and answers over HTTP.

    service.py HOME

POST /infer answers to {"seed": 1} with the figures of one inference; /health is 200 when the model
is loaded; /metrics is Prometheus text. Misbehaves as HOME/fault says: `refuse-int8`, `die-after N`,
`wrong`, `hog` (takes memory until it is killed), `ignore` (does not find its block and takes its
built-in default, FP32), each only when sarai.yaml names INT8.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import yaml

PORT = 8080
DEFAULT = "models/onnx/agi_audio_core.onnx"  # what a loader takes that finds no block of its own
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Sarai:
    """The model and what it did so far."""

    def __init__(self, home: Path) -> None:
        config = yaml.safe_load((home / "config/sarai.yaml").read_text(encoding="utf-8"))
        self.path = home / config["models"]["audio_omni"]["model_path"]
        self.fault = ""
        if "int8" in self.path.name and (home / "fault").exists():
            self.fault = (home / "fault").read_text().strip()
        if self.fault == "ignore":
            self.path = home / DEFAULT
        if self.fault == "refuse-int8":
            raise SystemExit("cannot start on an INT8 model: MatMulInteger is not supported here")
        self.session = onnxruntime.InferenceSession(str(self.path))
        self.cache: dict[int, dict] = {}
        self.counts = {"hits": 0, "misses": 0, "errors": 0}
        self.times: list[float] = []
        self.lock = threading.Lock()
        self.infer(0)

    def infer(self, seed: int) -> dict:
        with self.lock:
            if seed in self.cache:
                self.counts["hits"] += 1
                return self.cache[seed]
            self.counts["misses"] += 1
            started = time.perf_counter()
            rng = np.random.default_rng(seed)
            feed = {
                value.name: rng.integers(
                    0, 1024, [d if isinstance(d, int) else 1 for d in value.shape]
                )
                for value in self.session.get_inputs()
            }
            output = self.session.run(None, feed)[0]
            if self.fault == "wrong":
                output = output[..., ::-1] * np.float32(2)
            self.times.append(time.perf_counter() - started)
            self.cache[seed] = {
                "model": self.path.name,
                "shape": list(output.shape),
                "finite": bool(np.isfinite(output).all()),
                "values": output.ravel()[:: max(1, output.size // 256)][:256].tolist(),
                "mean": float(output.mean()),
                "sha256": hashlib.sha256(output.tobytes()).hexdigest(),
            }
            return self.cache[seed]

    def metrics(self) -> str:
        lines = ["# TYPE sarai_latency_seconds histogram"]
        for bound in BUCKETS:
            count = sum(value <= bound for value in self.times)
            lines.append(f'sarai_latency_seconds_bucket{{le="{bound}"}} {count}')
        lines += [
            f'sarai_latency_seconds_bucket{{le="+Inf"}} {len(self.times)}',
            f"sarai_latency_seconds_sum {sum(self.times)}",
            f"sarai_latency_seconds_count {len(self.times)}",
        ]
        for name in ("hits", "misses"):
            lines.append(f"sarai_cache_{name}_total {self.counts[name]}")
        return "\n".join([*lines, f"sarai_errors_total {self.counts['errors']}"]) + "\n"


class Handler(BaseHTTPRequestHandler):
    sarai: Sarai

    def answer(self, code: int, text: str, kind: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self) -> None:
        if self.path == "/health":
            said = {"status": "HEALTHY", "model": self.sarai.path.name}
            self.answer(200, json.dumps(said))
        elif self.path == "/metrics":
            self.answer(200, self.sarai.metrics(), "text/plain; version=0.0.4")
        else:
            self.answer(404, "{}")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        try:
            asked = json.loads(self.rfile.read(length) or b"{}")
            self.answer(200, json.dumps(self.sarai.infer(int(asked.get("seed", 0)))))
        except Exception as error:
            self.sarai.counts["errors"] += 1
            self.answer(500, json.dumps({"error": str(error)}))

    def log_message(self, *arguments: object) -> None:
        pass


def notify(text: str) -> None:
    """Tell systemd, as sd_notify does."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            channel.send(text.encode())


def die(after_s: float) -> None:
    time.sleep(after_s)
    print("fatal: the INT8 kernel gave up", flush=True)
    os._exit(3)


def hog() -> None:
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20) * 16))


def main() -> None:
    Handler.sarai = Sarai(Path(sys.argv[1]))
    fault = Handler.sarai.fault
    if fault.startswith("die-after"):
        threading.Thread(target=die, args=[float(fault.split()[1])], daemon=True).start()
    if fault == "hog":
        threading.Thread(target=hog, daemon=True).start()
    with ThreadingHTTPServer(("127.0.0.1", PORT), Handler) as server:
        print(f"serving {Handler.sarai.path.name}", flush=True)
        notify("READY=1")
        server.serve_forever()


if __name__ == "__main__":
    main()
