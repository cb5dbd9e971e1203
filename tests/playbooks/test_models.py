"""Two models on one target and in one configuration, one of them of a single file."""

from __future__ import annotations

import json
import shutil

import models
import onnx
import pytest
import yaml
from conftest import Site
from modelops.pair import manifest
from modelops.sample.sample import make_sample

CORE, VOICE = "agi_audio_core", "agi_audio_core_es.v2"
CONFIG = f"""\
models:
  # dos modelos, las mismas claves
  audio_omni:
    model_path: models/onnx/{CORE}.onnx   # el grande
    max_memory_mb: 4321   # ningún inventario lo sabe
  voice:
    max_memory_mb: 4400
    model_path: "models/onnx/{VOICE}.onnx"   # de un solo archivo
"""
OF_VOICE = {
    "sarai_model_name": VOICE,
    "sarai_config_block": "models.voice",
    "sarai_input_ranges": {},
}


@pytest.fixture
def both(site) -> Site:
    """The FP32 files of both models on the builder and on the target."""
    for folder in (site.builder, site.models()):
        folder.mkdir(parents=True)
    make_sample(site.builder / f"{CORE}.onnx", 3)
    models.matmul(site.builder / f"{VOICE}.onnx", 512, 512, external=False)
    for path in site.builder.iterdir():
        shutil.copy(path, site.models())
    site.config().parent.mkdir()
    site.config().write_text(CONFIG)
    return site


def named(site: Site) -> list[str]:
    blocks = yaml.safe_load(site.config().read_text())["models"].values()
    return [block["model_path"].rpartition("/")[2] for block in blocks]


def test_two_models_are_released_and_go_back_apart(both):
    assert {path.name for path in both.builder.glob(f"{VOICE}*")} == {f"{VOICE}.onnx"}
    for variables in ({}, OF_VOICE):
        outcome = both.work(**variables)
        assert outcome.rc == 0, outcome.output
    assert named(both) == [f"{CORE}_int8.onnx", f"{VOICE}_int8.onnx"]
    again = both.work()
    assert again.rc == 0 and again.changed_tasks() == [], again.output
    ids = [json.loads((both.store(model=m) / "state.json").read_text()) for m in (CORE, VOICE)]
    assert len({state["active"] for state in ids}) == 2
    shutil.rmtree(both.builder)  # the way back needs no builder
    back = both.run("rollback.yml", rollback_void=True, rollback_reason="sounds-wrong")
    assert back.rc == 0 and "rolled back from" in back.output, back.output
    assert named(both) == [f"{CORE}.onnx", f"{VOICE}_int8.onnx"]
    assert (both.models() / f"{VOICE}_int8.onnx").is_file()
    back = both.run("rollback.yml", **OF_VOICE)
    assert back.rc == 0, back.output
    assert both.config().read_text() == CONFIG


def test_int8_of_one_file_that_a_person_copied(both):
    """What lies in the incoming folder is enough when the builder is off."""
    made = both.run("quantize.yml", "--tags quantize", **OF_VOICE)
    assert made.rc == 0, made.output
    incoming = both.models() / ".incoming"
    incoming.mkdir()
    graph = incoming / f"{VOICE}_int8.onnx"
    onnx.save_model(onnx.load(both.builder / graph.name), graph)
    listed = manifest.load(manifest.find(both.builder, VOICE))
    golden = listed["golden"]
    listed = manifest.build([manifest.describe(graph)], listed["source"], {}, listed["nodes"], {})
    listed["golden"] = golden
    shutil.copy(both.builder / golden["name"], incoming)
    # As versions before called it; another model's manifest lies there, too.
    (incoming / "manifest.json").write_bytes(manifest.dump(listed))
    (incoming / f"{CORE}.manifest.json").write_text("{}")
    (both.models() / f"{VOICE}_int8.onnx.data").unlink(missing_ok=True)
    shutil.rmtree(both.builder)
    arguments = "quantize.yml", "--tags release --limit targets,localhost"
    # FP32 is on the target, as the way back, and need not run there.
    given = {"transfer_strategy": "adopt", "sarai_measure_mode": "golden", **OF_VOICE}
    outcome = both.run(*arguments, **given)
    assert outcome.rc == 0, outcome.output
    assert "cosine similarity" in outcome.output and "speed against FP32" not in outcome.output
    again = both.run(*arguments, **given)
    assert again.rc == 0 and again.changed_tasks() == [], again.output
    assert named(both) == [f"{CORE}.onnx", f"{VOICE}_int8.onnx"]
    assert [path.name for path in both.models().glob("*_int8*")] == [graph.name]
    back = both.run("rollback.yml", rollback_void=True, **OF_VOICE)
    assert back.rc == 0, back.output
    assert both.config().read_text() == CONFIG
    assert not list(both.models().glob("*_int8*"))


def test_a_name_that_no_path_is_made_of_ends_the_run(both):
    before = both.tree()
    outcome = both.run("quantize.yml", sarai_model_name="../elsewhere")
    assert outcome.rc != 0
    assert "cannot be the name of a model" in outcome.output.replace("\n", " ")
    assert both.tree() == before
