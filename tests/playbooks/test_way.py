"""The way of a run, end to end, on a builder and targets that are folders of this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import models
import pytest
import yaml
from conftest import ROOT

INT8 = "models/onnx/agi_audio_core_int8.onnx"
FP32 = "models/onnx/agi_audio_core.onnx"
TOLD = tuple(f"agi_audio_core.{told}" for told in ("SHA256SUMS", "golden.npz"))


def test_check_run_and_run_again(fresh):
    before = fresh.tree()
    told = fresh.run("quantize.yml", "--check --diff")
    assert told.rc == 0, told.output
    assert fresh.tree() == before
    done = fresh.run("quantize.yml", quantize_verify=True)
    assert done.rc == 0, done.output
    # Check mode runs no model, so it cannot tell of the record of what was measured.
    measuring = {t for t in done.changed_tasks() if "Measure" in t[1]}
    assert set(told.changed_tasks()) | measuring == set(done.changed_tasks())
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
    told = live.run("quantize.yml", "--check --diff")
    assert told.rc == 0, told.output
    assert live.tree() == before
    done = live.run("quantize.yml")
    assert done.rc == 0, done.output
    assert told.changed_tasks() == done.changed_tasks()
    assert live.named_model() == INT8


def test_a_flipped_byte_is_found_and_repaired(live):
    data = live.models() / "agi_audio_core_int8.onnx.data"
    right = data.read_bytes()
    data.write_bytes(right[:1000] + bytes([right[1000] ^ 1]) + right[1001:])
    config = live.config().read_bytes()
    outcome = live.run("quantize.yml")
    assert outcome.rc == 0, outcome.output
    assert data.read_bytes() == right
    assert live.config().read_bytes() == config


def test_the_similarity_gate_keeps_fp32(fresh):
    config = fresh.config().read_bytes()
    outcome = fresh.run("quantize.yml", sarai_gate_cosine_min=0.99999, quantize_quality={})
    assert outcome.rc != 0
    assert fresh.config().read_bytes() == config
    assert not list(fresh.models().glob("*_int8*"))
    (report,) = (fresh.folder / "reports").glob("*/report.md")
    for text in (outcome.output, report.read_text()):
        assert "changed from 0.98" in text
        assert "cosine_min" in text


def test_the_similarity_gate_takes_a_live_release_back(live):
    outcome = live.run("quantize.yml", sarai_gate_cosine_min=0.99999, quantize_quality={})
    assert outcome.rc != 0
    assert live.named_model() == FP32
    assert live.state()["void"] == {}
    assert live.run("quantize.yml").rc == 0
    assert live.named_model() == INT8


def test_a_release_that_fails_in_service_is_reverted_and_void(fresh):
    config = fresh.config().read_bytes()
    outcome = fresh.run("quantize.yml", sarai_gate_speedup_min=1000)
    assert outcome.rc != 0
    assert fresh.config().read_bytes() == config
    (release,) = fresh.state()["void"]
    assert "speedup" in outcome.output and "reverted to fp32" in outcome.output
    again = fresh.run("quantize.yml")
    assert again.rc != 0 and "is void" in again.output
    assert fresh.named_model() == FP32
    assert fresh.run("quantize.yml", activate_unvoid=release).rc == 0
    assert fresh.named_model() == INT8


def test_no_further_target_is_touched_after_a_failure(fresh):
    fresh.targets = 2
    data = fresh.models(1) / "agi_audio_core.onnx.data"
    right = data.read_bytes()
    data.write_bytes(bytes([right[0] ^ 1]) + right[1:])
    untouched = models.tree(fresh.home(2))
    outcome = fresh.run("quantize.yml", sample_enabled=False)
    assert outcome.rc != 0
    assert "way back" in outcome.output
    assert fresh.named_model(1) == FP32
    assert {k: v for k, v in models.tree(fresh.home(2)).items() if "lock" not in k} == untouched
    shutil.copy(fresh.models(2) / "agi_audio_core.onnx.data", data)
    assert fresh.run("quantize.yml").rc == 0
    assert [fresh.named_model(n) for n in (1, 2)] == [INT8, INT8]


def test_rollback_restores_the_owners_values(fresh):
    text = (
        "# von Hand\r\naudio_omni:   # unser Block\r\n    model_path: '" + FP32 + "' # so\r\n"
        "    # Speicher\r\n    max_memory_mb:   4321\r\nother: [1,  2]\r\n"
    )
    fresh.config().write_bytes(text.encode())
    assert fresh.run("quantize.yml").rc == 0
    assert yaml.safe_load(fresh.config().read_text())["audio_omni"] == {
        "model_path": INT8, "max_memory_mb": 1200,
    }  # fmt: skip
    shutil.rmtree(fresh.builder)
    outcome = fresh.run("rollback.yml")
    assert outcome.rc == 0, outcome.output
    assert fresh.config().read_bytes() == text.encode()
    assert "went back from" in outcome.output
    again = fresh.run("rollback.yml")
    assert again.rc == 0 and again.changed == {}


def test_rollback_to_last_good_and_to_nowhere(live):
    assert live.run("rollback.yml", rollback_void=False).rc == 0
    assert live.run("rollback.yml", rollback_to="last_good").rc == 0
    assert live.named_model() == INT8
    outcome = live.run("rollback.yml", rollback_to="0123456789abcdef")
    assert outcome.rc != 0 and "no such complete release" in outcome.output
    assert live.named_model() == INT8


def test_a_missing_configuration_is_made(fresh):
    fresh.config().unlink()
    outcome = fresh.run("quantize.yml", sample_enabled=False)
    assert outcome.rc == 0, outcome.output
    assert fresh.named_model() == INT8
    assert fresh.run("rollback.yml").rc == 0
    assert yaml.safe_load(fresh.config().read_text())["audio_omni"] == {
        "model_path": FP32, "max_memory_mb": 4400,
    }  # fmt: skip


def test_preflight_lists_every_problem_of_every_host_at_once(fresh):
    (fresh.builder / "agi_audio_core.onnx.data").unlink()
    (fresh.models() / "agi_audio_core.onnx").write_bytes(b"")
    fresh.config().write_text("audio:\n  x: 1\n")
    before = fresh.tree()
    outcome = fresh.run("quantize.yml", sample_enabled=False)
    assert outcome.rc != 0
    for words in ("data file is missing", "empty (0 bytes)", "audio_omni"):
        assert words in outcome.output.replace("\n", " "), words
    assert fresh.tree() == before


@pytest.mark.parametrize("text", ["audio_omni: [\n", "a: 1\n"])
def test_a_configuration_that_cannot_be_edited(fresh, text):
    fresh.config().write_text(text)
    before = fresh.tree()
    outcome = fresh.run("quantize.yml", "--tags preflight", sample_enabled=False)
    assert outcome.rc != 0
    assert "sarai.yaml" in outcome.output
    assert fresh.tree() == before


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
    outcome = live.run("quantize.yml", transfer_strategy="adopt")
    assert outcome.rc != 0 and "bytes instead of" in outcome.output
    data.write_bytes(right)
    outcome = live.run("quantize.yml", transfer_strategy="adopt")
    assert outcome.rc == 0, outcome.output
    assert live.state()["active"] == released_id


def test_adopt_without_the_builder(live):
    """What lies in the incoming folder is enough when the builder is off."""
    assert live.run("rollback.yml", rollback_void=False).rc == 0
    shutil.rmtree(live.models() / ".releases")
    incoming = live.models() / ".incoming"
    incoming.mkdir(exist_ok=True)
    for path in live.models().glob("*_int8*"):
        path.rename(incoming / path.name)
    for name in ("agi_audio_core.manifest.json", "agi_audio_core.golden.npz"):
        shutil.copy(live.builder / name, incoming)
    shutil.rmtree(live.builder)
    # FP32 is on the target, as the way back, and need not run there.
    outcome = live.run(
        "quantize.yml",
        "--tags release --limit targets,localhost",
        transfer_strategy="adopt",
        sarai_measure_mode="golden",
    )
    assert outcome.rc == 0, outcome.output
    assert live.named_model() == INT8
    assert "cosine similarity" in outcome.output and "FP32 / INT8" not in outcome.output


def test_an_empty_inventory_is_no_silent_success():
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    for name in ("quantize.yml", "rollback.yml"):
        command = [playbook, "-i", "localhost,", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "project's folder" in done.stdout.replace("\n", " ")


def test_phases_run_alone(live):
    for tag in ("preflight", "gate", "release"):
        outcome = live.run("quantize.yml", f"--tags {tag}")
        assert outcome.rc == 0, (tag, outcome.output)
        assert outcome.changed == {}, (tag, outcome.changed_tasks())
