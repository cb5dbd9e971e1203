"""What preflight looks at on a host."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import models
import pytest
from modelops.base import memory
from modelops.model import declared
from modelops.preflight import fp32, host

PARAMS = {
    "python": "3.11",
    "packages": ["numpy"],
    "disk_factor": 0.3,
    "measure_mode": "auto",
    "samples": 2,
    "environment": None,
    "environment_later": False,
    "outputs": {},
    "session": False,
    "inputs": {},
    "folder_later": False,
    "apart_from": None,
    "data_bytes": 0,
    "controller_time": 0,
    "clock_skew_s": 60,
    "clock_delay_s": 30,
    "call_limit_s": 60,
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
    return [row["check"] for row in host.check_host(params) if row["level"] != "ok"]


def test_a_good_host(params):
    rows = host.check_host(params)
    assert bad(params) == []
    assert {"Python", "package numpy", "memory available"} <= {row["check"] for row in rows}


def test_every_problem_at_once(params, tmp_path, monkeypatch):
    (tmp_path / "voice.onnx.data").write_bytes(b"short")
    wrong = params | {
        "python": "3.99",
        "packages": ["numpy", "no-such-package"],
        "folder": str(tmp_path / "missing"),
    }
    monkeypatch.setattr(memory, "available_bytes", lambda: 1)
    rows = [row for row in host.check_host(wrong) if row["level"] != "ok"]
    assert len(rows) == 5
    assert all(row["remedy"] and row["value"] and row["threshold"] for row in rows)


def test_no_room_on_the_disk_is_advice_where_the_pair_is_there(params, tmp_path):
    params["disk_factor"] = 1e12
    levels = [row["level"] for row in host.check_host(params) if row["check"].startswith("disk")]
    assert levels == ["problem"]
    params["spared_by"] = params["model"]
    levels = [row["level"] for row in host.check_host(params) if row["check"].startswith("disk")]
    assert levels == ["advice"]


@pytest.mark.parametrize("name", ["models", "models/", "./models", "x/../models", "link"])
def test_the_builder_has_a_folder_of_its_own(params, tmp_path, name):
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(folder)
    params |= {"folder": str(folder), "apart_from": f"{tmp_path}/{name}"}
    assert bad(params) == ["folder of the builder"]
    assert bad(params | {"apart_from": str(tmp_path / "x")}) == []


def test_a_folder_that_the_run_makes(params, tmp_path):
    later = params | {"folder": str(tmp_path / "made"), "folder_later": True}
    assert bad(later) == []
    assert bad(later | {"folder_later": False}) == [f"folder {tmp_path / 'made'}"]
    assert bad(later | {"folder": str(tmp_path / "a" / "b")}) == [f"folder {tmp_path / 'a'}"]


def test_without_onnx_both_files_must_be_there(params, tmp_path, monkeypatch):
    monkeypatch.setitem(host.sys.modules, "modelops.model.reader", None)
    assert bad(params) == []
    (tmp_path / "voice.onnx.data").write_bytes(b"")
    assert bad(params) == [f"FP32 model {params['model']}"]


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0, "ok"), (-59, "ok"), (-61, "advice"), (89, "ok"), (91, "advice"), (1e8, "advice")],
)
def test_the_clock_of_a_host_is_compared_with_the_way_in_mind(ahead, level):
    row = host.check_clock(1e9 + ahead, 1e9, 60, 30)
    assert row["level"] == level and f"{ahead:+,.0f} s" in row["value"]


def test_this_hosts_clock(params):
    checks = {row["check"]: row for row in host.check_host(params | {"controller_time": 1.0})}
    assert checks["clock"]["level"] == "advice"
    now = params | {"controller_time": time.time()}
    assert bad(now) == [] and len(host.check_host(now)) == len(checks)


def test_the_size_of_the_model(params, tmp_path):
    size = (tmp_path / "voice.onnx.data").stat().st_size
    assert bad(params | {"data_bytes": size}) == []
    assert bad(params | {"data_bytes": size + 1}) == [f"size of {tmp_path / 'voice.onnx.data'}"]


def test_an_environment_that_is_made_later(params, tmp_path):
    """What it lacks is advice; its own Python looks at packages and model."""
    params |= {"environment": str(tmp_path / "venv" / "bin" / "python3"), "environment_later": True}
    rows = {row["check"]: row for row in host.check_host(params)}
    assert rows[f"environment of {params['environment']}"]["level"] == "advice"
    assert rows[f"FP32 model {params['model']}"]["level"] == "ok"
    assert not any(check.startswith("package") for check in rows)
    other = tmp_path / "python3"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    params |= {"environment": str(other), "packages": ["numpy", "no-such-package"]}
    rows = {row["check"]: row for row in host.check_host(params)}
    assert rows["package numpy"]["level"] == "ok"
    assert rows["package no-such-package"]["level"] == "advice"
    assert "the phase runtime" in rows["package no-such-package"]["remedy"].lower()
    (tmp_path / "voice.onnx.data").write_bytes(b"short")
    assert f"FP32 model {params['model']}" in bad(params)


def test_an_environment_that_is_broken(params, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no pyvenv.cfg; exit 1\n")
    broken.chmod(0o755)
    (row,) = [
        row
        for row in host.check_host(params | {"environment": str(broken)})
        if row["level"] != "ok"
    ]
    assert row["level"] == "problem" and "no pyvenv.cfg" in row["value"]
    later = params | {"environment": str(broken), "environment_later": True}
    assert bad(later) == [f"environment of {broken}"]


@pytest.mark.parametrize(("named", "there"), [("venv", ".venv"), (".venv", "venv")])
def test_the_other_name_of_an_environment(params, tmp_path, named, there):
    python = tmp_path / there / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    wrong = tmp_path / named / "bin" / "python"
    (row,) = [r for r in host.check_host(params | {"environment": str(wrong)}) if r["remedy"]]
    assert (row["id"], row["level"]) == ("environment", "problem")
    assert row["remedy"].startswith(f"{python} is there")
    python.unlink()
    (row,) = [r for r in host.check_host(params | {"environment": str(wrong)}) if r["remedy"]]
    assert str(python) not in row["remedy"]


def test_an_environment_of_an_old_python(params, tmp_path):
    old = tmp_path / "python3"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    old.chmod(0o755)
    rows = host.check_host(params | {"environment": str(old), "python": "3.99"})
    (row,) = [row for row in rows if row["id"] == "environment"]
    assert "too old" in row["value"]


def test_a_package_by_the_name_of_another_distribution(tmp_path, monkeypatch):
    """onnxruntime-gpu brings the package onnxruntime."""
    folder = tmp_path / "odd_gpu-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-gpu\nVersion: 1.2\n")
    (folder / "top_level.txt").write_text("odd\n")
    monkeypatch.syspath_prepend(tmp_path)
    (row,) = host.check_packages(["odd"])
    assert (row["level"], row["value"]) == ("ok", "1.2")


def voice_outputs(params):
    return declared.read(Path(params["model"])).outputs


def test_the_outputs_that_are_expected(params):
    ((name, shape),) = voice_outputs(params).items()
    assert bad(params | {"outputs": {name: list(shape)}}) == []
    for wrong in ([*shape, 1], [size + 1 for size in shape], shape[:-1], []):
        assert bad(params | {"outputs": {name: wrong}}) == [f"output {name}"], wrong
    assert bad(params | {"outputs": {"other": shape, name: shape}}) == ["output other"]
    for odd in ("1x2", {"a": 1}, ["1"], None):
        assert bad(params | {"outputs": {name: odd}}) == [f"output {name}"], odd


@pytest.mark.parametrize(
    ("shape", "wanted", "level", "words"),
    [
        ([1, "n", 8], [1, 5, 8], "ok", "[1, n, 8], names may be any number"),
        ([1, None, 8], [1, 5, 8], "ok", "[1, ?, 8]"),
        ([1, "n", 8], [1, 5, 9], "problem", "[1, n, 8]"),
        ([1, "n", 8], [1, 5], "problem", "[1, n, 8]"),
        (None, [1, 5], "ok", "leaves open"),
        ([], [], "ok", "[]"),
    ],
)
def test_dimensions_that_a_graph_leaves_open(shape, wanted, level, words):
    model = declared.Declared(8, {}, {"y": shape})
    (row,) = fp32.check_outputs(model, {"y": wanted})
    assert row["level"] == level and words in row["value"], row


def test_the_session_of_a_target(params):
    rows = {row["check"]: row for row in host.check_host(params | {"session": True})}
    row = rows["onnxruntime in a session"]
    assert row["level"] == "ok" and "IR version 9 and opset ai.onnx 17" in row["threshold"]


GB = 10**9


@pytest.mark.parametrize(
    ("available", "mode", "fits"),
    [
        (16 * GB, "auto", "both"),
        (9 * GB, "auto", "in_turn"),
        (5 * GB, "auto", "golden"),
        (9 * GB, "both", ""),
        (3 * GB, "auto", ""),
    ],
)
def test_memory_for_the_real_models_outputs(tmp_path, monkeypatch, available, mode, fits):
    """4.3 GB of weights and 2.01 GB an output; the data file is sparse."""
    graph = models.real_shapes(tmp_path / "m.onnx")
    with (tmp_path / "m.onnx.data").open("r+b") as data:
        data.truncate(4_300_000_000)
    monkeypatch.setattr(memory, "available_bytes", lambda: available)
    (row,) = host.check_memory(graph, tmp_path / "none", 0.3, mode, samples=0)
    assert row["level"] == ("ok" if fits else "problem")
    if fits:
        assert row["value"].endswith(f"for mode {fits}")
    assert row["threshold"].count("GB") == (3 if mode == "auto" else 1)


def test_the_memory_is_that_of_the_samples_that_a_file_has(params, monkeypatch):
    asked = []
    monkeypatch.setattr(host, "check_memory", lambda *given: asked.append(given[-1]) or [])
    sample = {"codes": {"dtype": "int64", "shape": [1, 8]}}
    given = {"file": "real.npz", "samples": [sample] * 7, "problem": ""}
    for inputs in ({}, given, given | {"samples": [], "problem": "no .npz"}):
        host.check_host(params | {"inputs": inputs})
    assert asked == [params["samples"], 7, params["samples"]]


def test_a_data_file_that_is_missing_is_told_once(params, tmp_path):
    (tmp_path / "voice.onnx.data").unlink()
    assert bad(params) == [f"FP32 model {params['model']}"]
