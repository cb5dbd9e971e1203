"""One machine is builder and target: inventory/single as it is, in a folder of the test."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml
from conftest import CONFIG, MODEL, ROOT, Outcome, Site
from modelops.sample.sample import make_sample


class Single(Site):
    """The machine of inventory/single, with its home in the test's folder and no service."""

    def inventory(self) -> str:
        return str(ROOT / "inventory" / "single")

    def run(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        own = {
            "sarai_home": str(self.home()),
            "ansible_python_interpreter": sys.executable,
            "sarai_builder_python": sys.executable,
            "sarai_python": sys.executable,
            "sarai_service_manager": "none",
            "sarai_expected_outputs": {"mel_features": self.shape},
        }
        return super().run(playbook, *arguments, **(own | variables))

    @property
    def shape(self) -> list[int]:
        import onnx

        graph = onnx.load(self.models() / MODEL, load_external_data=False).graph
        return [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim]


@pytest.fixture
def single(tmp_path) -> Single:
    site = Single(tmp_path / "site")
    site.models().mkdir(parents=True)
    make_sample(site.models() / MODEL, 3)
    site.config().parent.mkdir()
    site.config().write_text(CONFIG)
    return site


def test_a_release_and_the_way_back_on_one_machine(single):
    before = single.tree()
    outcome = single.run("quantize.yml")
    assert outcome.rc == 0, outcome.output
    assert "agi1: in service" in outcome.output
    assert "int8" in yaml.safe_load(single.config().read_text())["audio_omni"]["model_path"]
    assert {name: content for name, content in single.tree().items() if name in before} == (
        before | {"target1/config/sarai.yaml": single.config().read_bytes()}
    )
    data = single.models() / "agi_audio_core_int8.onnx.data"
    assert list(single.folder.rglob("*_int8.onnx.data")) == [data], "it is stored once"
    again = single.run("quantize.yml")
    assert again.rc == 0 and again.changed_tasks() == [], again.output
    right = data.read_bytes()
    data.write_bytes(right[:1000] + bytes([right[1000] ^ 1]) + right[1001:])
    repaired = single.work()
    assert repaired.rc == 0, repaired.output
    assert data.read_bytes() == right
    assert list(single.folder.rglob("*_int8.onnx.data")) == [data]
    back = single.run("rollback.yml")
    assert back.rc == 0, back.output
    assert single.config().read_text() == CONFIG
    assert not list(single.models().glob(".modelops*.lock")), "no lock is left"
