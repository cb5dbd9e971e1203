"""The way of a run, end to end, on a builder and targets that are folders of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import models
import yaml
from conftest import ROOT

INT8 = "models/onnx/agi_audio_core_int8.onnx"
FP32 = "models/onnx/agi_audio_core.onnx"
TOLD = tuple(f"agi_audio_core.{told}" for told in ("SHA256SUMS", "golden.npz"))


def test_check_run_and_run_again(fresh, released):
    before = fresh.tree()
    told = fresh.run("quantize.yml", "--check --diff")
    assert told.rc == 0, told.output
    assert fresh.tree() == before
    folder, done = released
    # Check mode runs no model, so it cannot tell of the record of what was measured.
    measuring = {t for t in done.changed_tasks() if "Measure" in t[1]}
    assert set(told.changed_tasks()) | measuring == set(done.changed_tasks())
    shutil.copytree(folder, fresh.folder, dirs_exist_ok=True)
    assert fresh.named_model() == INT8
    assert "cosine similarity" in done.output and "pass" in done.output
    (report,) = (fresh.folder / "reports").glob("*/report.md")
    assert "in service" in report.read_text()
    before = fresh.tree()
    again = fresh.run("quantize.yml")
    assert again.rc == 0, again.output
    assert again.changed == {}
    assert {k: v for k, v in fresh.tree().items() if v != before.get(k)} == {}


def test_a_removed_pair_is_foretold_and_restored(live):
    for path in (*live.models().glob("*_int8*"), *live.builder.glob("*_int8*")):
        path.unlink()
    before = live.tree()
    told = live.run("quantize.yml", "--check --diff --skip-tags preflight")
    assert told.rc == 0, told.output
    assert live.tree() == before
    done = live.work()
    assert done.rc == 0, done.output
    assert told.changed_tasks() == done.changed_tasks()
    assert live.named_model() == INT8


def test_the_similarity_gate_takes_a_live_release_back(live):
    outcome = live.run("quantize.yml", "--tags gate,release", sarai_gate_cosine_min=0.99999)
    assert outcome.rc != 0
    assert live.named_model() == FP32
    assert live.state()["void"] == {}
    assert live.run("quantize.yml", "--tags release").rc == 0
    assert live.named_model() == INT8


def test_a_release_that_fails_in_service_is_reverted_and_void(fresh):
    config = fresh.config().read_bytes()
    outcome = fresh.work(sarai_gate_speedup_min=1000)
    assert outcome.rc != 0
    assert fresh.config().read_bytes() == config
    (release,) = fresh.state()["void"]
    assert "speedup" in outcome.output and "reverted to fp32" in outcome.output
    again = fresh.run("quantize.yml", "--tags release")
    assert again.rc != 0 and "is void" in again.output
    assert fresh.named_model() == FP32
    assert fresh.run("quantize.yml", "--tags release", activate_unvoid=release).rc == 0
    assert fresh.named_model() == INT8


def test_no_further_target_is_touched_after_a_failure(fresh):
    fresh.targets = 2
    data = fresh.models(1) / "agi_audio_core.onnx.data"
    right = data.read_bytes()
    data.write_bytes(bytes([right[0] ^ 1]) + right[1:])
    untouched = models.tree(fresh.home(2))
    outcome = fresh.work()
    assert outcome.rc != 0
    assert "way back" in outcome.output
    assert fresh.named_model(1) == FP32
    assert {k: v for k, v in models.tree(fresh.home(2)).items() if "lock" not in k} == untouched
    shutil.copy(fresh.models(2) / "agi_audio_core.onnx.data", data)
    assert fresh.run("quantize.yml", "--tags release").rc == 0
    assert [fresh.named_model(n) for n in (1, 2)] == [INT8, INT8]


def test_rollback_to_last_good_and_to_nowhere(live):
    assert live.run("rollback.yml", rollback_void=False).rc == 0
    assert live.run("rollback.yml", rollback_to="last_good").rc == 0
    assert live.named_model() == INT8
    outcome = live.run("rollback.yml", rollback_to="0123456789abcdef")
    assert outcome.rc != 0 and "no such complete release" in outcome.output
    assert live.named_model() == INT8


def test_a_missing_configuration_is_made(fresh):
    fresh.config().unlink()
    outcome = fresh.work()
    assert outcome.rc == 0, outcome.output
    assert fresh.named_model() == INT8
    assert fresh.run("rollback.yml").rc == 0
    assert yaml.safe_load(fresh.config().read_text())["audio_omni"] == {
        "model_path": FP32, "max_memory_mb": 4400,
    }  # fmt: skip


def test_adopt_what_a_person_copied(live, site):
    released_id = live.state()["active"]
    assert live.run("rollback.yml", rollback_void=False).rc == 0
    shutil.rmtree(live.models() / ".releases")
    incoming = live.models() / ".incoming"
    incoming.mkdir(exist_ok=True)
    for path in live.models().glob("*_int8*"):
        path.unlink()
    assert "golden.npz" in (live.builder / TOLD[0]).read_text()
    for path in (*live.builder.glob("*_int8*"), *map(live.builder.joinpath, TOLD)):
        shutil.copy(path, incoming)
    data = incoming / "agi_audio_core_int8.onnx.data"
    right = data.read_bytes()
    data.write_bytes(right[:-1])
    outcome = live.run("quantize.yml", "--tags release", transfer_strategy="adopt")
    assert outcome.rc != 0 and "bytes instead of" in outcome.output
    data.write_bytes(right)
    outcome = live.run("quantize.yml", "--tags release", transfer_strategy="adopt")
    assert outcome.rc == 0, outcome.output
    assert live.state()["active"] == released_id


def test_an_empty_inventory_is_no_silent_success():
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    for name in ("quantize.yml", "rollback.yml"):
        command = [playbook, "-i", "localhost,", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "project's folder" in done.stdout.replace("\n", " ")


def test_the_gate_runs_alone_and_changes_nothing(live):
    """As preflight does in test_preflight and release in test_models."""
    outcome = live.run("quantize.yml", "--tags gate")
    assert outcome.rc == 0, outcome.output
    assert outcome.changed == {}, outcome.changed_tasks()
    assert any(Path(os.environ["MODELOPS_BUILT_MODULES"]).glob("*onnx_compare*"))


def test_the_sample_is_what_the_owner_has(site, sampled):
    outcome = site.run("quantize.yml", "--tags sample", sample_enabled=True)
    assert outcome.rc == 0, outcome.output
    assert site.named_model() == FP32
    made, other = site.tree(), models.tree(sampled)
    assert made | {"target1/config/sarai.yaml": b""} == {
        name: b"" if name.endswith(".yaml") else content
        for name, content in other.items()
        if "target2" not in name
    }
