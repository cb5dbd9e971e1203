"""Other recipes than INT8 go the same way: to release, to a second run, and back."""

from __future__ import annotations

import json

import yaml
from conftest import Site


def service(site: Site) -> dict:
    return yaml.safe_load(site.config().read_text())["audio_omni"]


def test_fp16_goes_into_service_and_back(live):
    int8 = live.state()["active"]
    done = live.run("quantize.yml", sarai_recipe="fp16")
    assert done.rc == 0, done.output
    fp16 = live.state()["active"]
    assert fp16 != int8
    manifest = json.loads((live.store() / fp16 / "manifest.json").read_text())
    assert manifest["recipe"]["name"] == "fp16"
    assert {"weight_fp16", "rows_fp16"} <= {node["form"] for node in manifest["nodes"]}
    before, now = (sum(f["size"] for f in manifest[k]) for k in ("source", "artifacts"))
    assert 0.49 < now / before < 0.56
    assert service(live)["max_memory_mb"] == 4400
    assert live.named_model().endswith("_int8.onnx")
    again = live.run("quantize.yml", sarai_recipe="fp16")
    assert again.rc == 0, again.output
    assert again.changed == {}
    back = live.run("rollback.yml", rollback_to=int8)
    assert back.rc == 0, back.output
    assert live.state()["active"] == int8 and service(live)["max_memory_mb"] == 1200
    back = live.run("rollback.yml")
    assert back.rc == 0, back.output
    assert service(live)["max_memory_mb"] == 4400
    assert not live.named_model().endswith("_int8.onnx")
