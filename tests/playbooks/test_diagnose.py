"""playbooks/diagnose.yml: what is wrong is told, and mended when that is asked for."""

from __future__ import annotations

import json
import os
import tarfile
from typing import Any

INT8 = "models/onnx/agi_audio_core_int8.onnx"
FP32 = "models/onnx/agi_audio_core.onnx"


def wrong(site) -> dict[str, str]:
    """The rows of the target that are not right, by their id."""
    found = json.loads((site.folder / "diagnosis.json").read_text())["hosts"]["target1"]
    return {row["id"]: row["level"] for row in found if row["level"] != "ok" and row["id"]}


def diagnose(site, *arguments: str, **variables: Any):
    told = {"diagnose_json": str(site.folder / "diagnosis.json")}
    return site.run("playbooks/diagnose.yml", *arguments, **told, **variables)


def test_what_is_broken_is_told_then_mended(live):
    data = live.models() / "agi_audio_core_int8.onnx.data"
    right = data.read_bytes()
    data.write_bytes(right[:1000] + bytes([right[1000] ^ 1]) + right[1001:])
    config = live.config().read_text()
    live.config().write_text(config.replace(INT8, FP32))
    half = live.models() / ".incoming" / "0123456789abcdef"
    half.mkdir(parents=True)
    (half / "agi_audio_core_int8.onnx.data").write_bytes(right[:500])
    for path in (half / "agi_audio_core_int8.onnx.data", half):
        os.utime(path, (1, 1))
    before = live.tree()

    told = diagnose(live)
    assert told.rc == 2, told.output
    broken = {"files": "problem", "drift_int8": "problem", "half_transfer": "advice"}
    assert broken.items() <= wrong(live).items()
    assert "SHA-256" in told.output and "Run quantize.yml" in told.output
    after = {name: text for name, text in live.tree().items() if name != "diagnosis.json"}
    assert after == before, "a diagnosis changes nothing"

    done = diagnose(live, diagnose_fix=True)
    assert done.rc == 0, done.output
    assert not broken.keys() & wrong(live).keys()
    assert data.read_bytes() == right
    assert live.config().read_text() == config
    assert not half.exists()


def test_a_void_release_in_service_goes_back_to_fp32(live):
    state = live.state()
    state["void"] = {state["active"]: "sounds metallic"}
    (live.store() / "state.json").write_text(json.dumps(state))
    told = diagnose(live)
    assert told.rc == 2 and wrong(live)["void"] == "problem", told.output
    assert "sounds metallic" in told.output
    done = diagnose(live, diagnose_fix=True)
    assert done.rc == 0, done.output
    assert "void" not in wrong(live)
    assert (live.state()["active"], live.named_model()) == ("fp32", FP32)


def test_one_archive_for_somebody_far_away_holds_no_secret(live):
    before = live.config().read_text()
    live.config().write_text(before + "voice_token: GEHEIM\n")
    archive = live.folder / "away" / "support.tar.gz"
    done = live.run("playbooks/support_bundle.yml", diagnose_bundle=str(archive))
    assert done.rc == 0, done.output
    with tarfile.open(archive) as opened:
        told = {
            name.partition("/")[2]: opened.extractfile(name).read().decode()
            for name in opened.getnames()
        }
    active = json.loads(told["target1/state.json"])["active"]
    assert active in told[f"target1/manifest-{active}.json"]
    assert INT8 in told["target1/configuration.txt"]
    assert "builder" in json.loads(told["controller/rows.json"])
    assert "GEHEIM" not in "".join(told.values())
    live.config().write_text(before)
