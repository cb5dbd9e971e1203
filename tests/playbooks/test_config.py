"""The owner's configuration through a release and back: as he wrote it, byte for byte."""

from __future__ import annotations

import pytest
from config_texts import FP32, INT8, NESTED, lines_that_differ
from conftest import MODEL, Site

# The owner's value is none that the inventory knows.
OWN = NESTED.replace("max_memory_mb: 4400", "max_memory_mb: 4321")


@pytest.fixture
def nested(fresh) -> Site:
    """A site with the owner's models, whose configuration has our block below others."""
    fresh.config().write_bytes(OWN.encode())
    return fresh


def test_what_cannot_be_edited_is_refused(nested, monkeypatch):
    """On each host for a reason of its own, all told by one run."""
    nested.targets = 3
    inventory = nested.inventory()
    inventory["all"]["children"]["targets"]["hosts"]["target1"]["sarai_config_block"] = "models"
    monkeypatch.setattr(nested, "inventory", lambda: inventory)
    texts = [NESTED, NESTED.replace('"monolithic"', '"modular"'), "audio_omni: [\n"]
    for number, text in enumerate(texts, 1):
        nested.config(number).parent.mkdir(parents=True, exist_ok=True)
        nested.config(number).write_text(text)
    (nested.builder / f"{MODEL}.data").unlink()
    (nested.models() / MODEL).write_bytes(b"")
    before = nested.tree()
    outcome = nested.run("quantize.yml")
    assert outcome.rc != 0
    said = " ".join(outcome.output.split())
    for words in (
        "sarai_config_block: models.audio_omni",
        "is 'modular' (line 25)",
        f"{nested.config(3)}",
        "data file is missing",
        "empty (0 bytes)",
    ):
        assert words in said, words
    assert nested.tree() == before


def test_rollback_says_nothing_of_a_file_that_it_did_not_look_at(nested):
    outcome = nested.run("rollback.yml", rollback_only_from="0123456789abcdef")
    assert outcome.rc == 0, outcome.output
    assert "was there already" in outcome.output and "is as it was." in outcome.output
    assert nested.config().read_bytes() == OWN.encode()
    outcome = nested.run("rollback.yml")
    assert outcome.rc == 0, outcome.output
    assert f"names {FP32} now." in outcome.output.replace("\n", " ")


def test_a_file_that_the_owner_is_at_work_in_does_not_block_the_way_back(nested):
    outcome = nested.work()
    assert outcome.rc == 0, outcome.output
    changed = lines_that_differ(OWN, nested.config().read_text())
    assert [new.split("#")[0].strip() for _, new in changed] == [
        f'model_path: "{INT8}"', "max_memory_mb: 1200",
    ]  # fmt: skip
    half = nested.config().read_text().replace("logging: {", "logging: [")
    nested.config().write_text(half)
    outcome = nested.run("rollback.yml")
    assert outcome.rc == 0, outcome.output
    assert "text of the last activation" in outcome.output.replace("\n", " ")
    assert nested.config().read_bytes() == OWN.encode()
    (aside,) = nested.config().parent.glob("sarai.yaml.aside-*")
    assert aside.read_text() == half
    again = nested.run("rollback.yml")
    assert again.rc == 0 and again.changed == {}


def test_a_service_that_takes_its_model_from_the_environment(fresh):
    """The sample makes the file, with the variables of the inventory, and leaves what is there."""
    before = fresh.tree()
    ours = {
        "sarai_config_manager": "environment_file",
        "sarai_config_file": str(fresh.home() / "config" / "sarai.env"),
        "sarai_config_path_key": "OMNI_MODEL_PATH",
        "sarai_config_fp32": {"OMNI_MODEL_PATH": FP32, "OMNI_MEMORY": 4400},
        "sarai_config_int8": {"OMNI_MODEL_PATH": INT8, "OMNI_MEMORY": 1200},
    }
    outcome = fresh.work(sample_enabled=True, **ours)
    assert outcome.rc == 0, outcome.output
    file = fresh.home() / "config" / "sarai.env"
    assert f"\nOMNI_MODEL_PATH={INT8}\nOMNI_MEMORY=1200\n" in file.read_text()
    outcome = fresh.run("rollback.yml", **ours)
    assert outcome.rc == 0, outcome.output
    assert {name: content for name, content in fresh.tree().items() if name in before} == before
    assert f"names {FP32} now" in outcome.output.replace("\n", " ")
    (backup,) = file.parent.glob("sarai.env.before-*")
    assert file.read_bytes() == backup.read_bytes()
