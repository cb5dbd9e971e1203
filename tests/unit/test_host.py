"""What preflight looks at on a host."""

from __future__ import annotations

import models
import pytest
from modelops import host

PARAMS = {
    "python": "3.11",
    "packages": ["numpy"],
    "disk_factor": 0.3,
    "memory_factor": 1.0,
    "memory_base": 0,
}


@pytest.fixture
def params(tmp_path):
    model = models.voice(tmp_path / "voice.onnx")
    return PARAMS | {
        "model": str(model),
        "folder": str(tmp_path),
        "spared_by": str(tmp_path / "none"),
    }


def bad(params):
    return [row["check"] for row in host.check_host(params) if not row["ok"]]


def test_a_good_host(params):
    rows = host.check_host(params)
    assert bad(params) == []
    assert {"Python", "package numpy", "memory available"} <= {row["check"] for row in rows}


def test_every_problem_at_once(params, tmp_path):
    (tmp_path / "voice.onnx.data").write_bytes(b"short")
    wrong = params | {
        "python": "3.99",
        "packages": ["numpy", "no-such-package"],
        "folder": str(tmp_path / "missing"),
        "memory_base": 1 << 60,
    }
    rows = [row for row in host.check_host(wrong) if not row["ok"]]
    assert len(rows) == 5
    assert all(row["remedy"] and row["value"] and row["threshold"] for row in rows)


def test_no_room_on_the_disk_unless_the_pair_is_there(params, tmp_path):
    params["disk_factor"] = 1e12
    assert bad(params) == [f"disk of {tmp_path}"]
    params["spared_by"] = params["model"]
    assert bad(params) == []


def test_without_onnx_both_files_must_be_there(params, tmp_path, monkeypatch):
    monkeypatch.setitem(host.sys.modules, "modelops.graph", None)
    assert bad(params) == []
    (tmp_path / "voice.onnx.data").write_bytes(b"")
    assert bad(params) == [f"FP32 model {params['model']}"]
