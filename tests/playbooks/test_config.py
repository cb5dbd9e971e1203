"""The owner's configuration through a release and back: as he wrote it, byte for byte."""

from __future__ import annotations

import pytest
from config_texts import FP32, INT8, NESTED, lines_that_differ
from conftest import Site


@pytest.fixture
def nested(fresh) -> Site:
    """A site with the owner's models, whose configuration has our block below others."""
    fresh.config().write_bytes(NESTED.encode())
    return fresh


def test_a_nested_configuration_there_and_back(nested):
    outcome = nested.run("quantize.yml", sample_enabled=False)
    assert outcome.rc == 0, outcome.output
    changed = lines_that_differ(NESTED, nested.config().read_text())
    assert [new.split("#")[0].strip() for _, new in changed] == [
        f'model_path: "{INT8}"', "max_memory_mb: 1200",
    ]  # fmt: skip
    before = nested.tree()
    again = nested.run("quantize.yml", sample_enabled=False)
    assert again.rc == 0 and again.changed == {}
    outcome = nested.run("rollback.yml")
    assert outcome.rc == 0, outcome.output
    assert nested.config().read_bytes() == NESTED.encode()
    assert before != nested.tree()


def test_an_edit_that_nobody_would_read_is_refused(nested):
    before = nested.tree()
    outcome = nested.run("quantize.yml", sample_enabled=False, sarai_config_block="models")
    assert outcome.rc != 0
    assert "sarai_config_block: models.audio_omni" in outcome.output
    modular = NESTED.replace('"monolithic"', '"modular"')
    nested.config().write_text(modular)
    outcome = nested.run("quantize.yml", "--tags preflight", sample_enabled=False)
    assert outcome.rc != 0
    assert "is 'modular' (line 25)" in outcome.output.replace("\n", " ")
    nested.config().write_text(NESTED)
    assert nested.tree() == before


def test_rollback_says_nothing_of_a_file_that_it_did_not_look_at(nested):
    outcome = nested.run("rollback.yml", rollback_only_from="0123456789abcdef")
    assert outcome.rc == 0, outcome.output
    assert "was there already" in outcome.output and "is as it was." in outcome.output
    assert nested.config().read_bytes() == NESTED.encode()
    outcome = nested.run("rollback.yml")
    assert outcome.rc == 0, outcome.output
    assert f"names {FP32} now." in outcome.output.replace("\n", " ")


def test_a_file_that_the_owner_is_at_work_in_does_not_block_the_way_back(nested):
    outcome = nested.run("quantize.yml", sample_enabled=False)
    assert outcome.rc == 0, outcome.output
    half = nested.config().read_text().replace("logging: {", "logging: [")
    nested.config().write_text(half)
    outcome = nested.run("rollback.yml")
    assert outcome.rc == 0, outcome.output
    assert "text of the last activation" in outcome.output.replace("\n", " ")
    assert nested.config().read_bytes() == NESTED.encode()
    (aside,) = nested.config().parent.glob("sarai.yaml.aside-*")
    assert aside.read_text() == half
    assert FP32 in nested.config().read_text()


def test_a_service_that_takes_its_model_from_the_environment(fresh):
    """The sample makes the file, with the variables of the inventory."""
    ours = {
        "sarai_config_manager": "environment_file",
        "sarai_config_file": str(fresh.home() / "config" / "sarai.env"),
        "sarai_config_path_key": "OMNI_MODEL_PATH",
        "sarai_config_fp32": {"OMNI_MODEL_PATH": FP32, "OMNI_MEMORY": 4400},
        "sarai_config_int8": {"OMNI_MODEL_PATH": INT8, "OMNI_MEMORY": 1200},
    }
    outcome = fresh.run("quantize.yml", sample_enabled=True, **ours)
    assert outcome.rc == 0, outcome.output
    file = fresh.home() / "config" / "sarai.env"
    assert f"\nOMNI_MODEL_PATH={INT8}\nOMNI_MEMORY=1200\n" in file.read_text()
    outcome = fresh.run("rollback.yml", **ours)
    assert outcome.rc == 0, outcome.output
    assert f"names {FP32} now" in outcome.output.replace("\n", " ")
    (backup,) = file.parent.glob("sarai.env.before-*")
    assert file.read_bytes() == backup.read_bytes()
