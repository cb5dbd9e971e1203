"""What was forged on a host beside its own proof: it is found, and made or sent again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from modelops.pair import manifest

INT8 = "models/onnx/agi_audio_core_int8.onnx"


def test_live_files_and_their_manifest_forged_together_are_sent_again(live):
    release = live.state()["active"]
    kept = live.store() / release / "manifest.json"
    files = [live.models() / f"agi_audio_core_int8.onnx{end}" for end in ("", ".data")]
    right = {path: path.read_bytes() for path in (*files, kept)}
    data = right[files[1]]
    files[1].write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
    listed = json.loads(right[kept])
    listed["artifacts"] = [manifest.describe(path) for path in files]
    listed["release_id"] = manifest.release_id(listed["artifacts"])
    kept.write_bytes(manifest.dump(listed))
    config = live.config().read_bytes()
    outcome = live.work()
    assert outcome.rc == 0, outcome.output
    assert {path: path.read_bytes() for path in right} == right
    assert live.config().read_bytes() == config and live.state()["last_good"] == release

    # The id does not cover where a release comes from: only the manifest comes anew.
    listed = json.loads(right[kept])
    listed["source"][0]["sha256"] = "0" * 64
    kept.write_bytes(manifest.dump(listed))
    outcome = live.run("quantize.yml", "--tags release")
    assert outcome.rc == 0, outcome.output
    assert kept.read_bytes() == right[kept]
    assert not any("incoming" in task for _, task in outcome.changed_tasks())


def turn_round(path: Path) -> None:
    """Forge golden data: the outputs are turned round, what the data say of themselves stays."""
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    outputs = {name: -array for name, array in arrays.items() if name.startswith("output/")}
    np.savez(path, **arrays | outputs)


def test_forged_golden_data_are_made_anew_and_never_overrule_fp32(live):
    golden = live.builder / "agi_audio_core.golden.npz"
    listed = live.builder / "agi_audio_core.manifest.json"
    sums = live.builder / "agi_audio_core.SHA256SUMS"
    right = {path: path.read_bytes() for path in (golden, listed, sums)}
    # A run that begins behind the quantize phase takes what it finds on the builder.
    turn_round(golden)
    forged = json.loads(right[listed]) | {"golden": manifest.describe(golden)}
    listed.write_bytes(manifest.dump(forged))
    sums.write_text(manifest.sums(manifest.files(forged)))
    alone = live.run("quantize.yml", "--tags release", sarai_measure_mode="golden")
    said = alone.output.replace("\n", " ")
    assert alone.rc != 0 and "not known from when they were made" in said, alone.output
    assert live.named_model() == INT8 and live.state()["void"] == {}
    outcome = live.run("quantize.yml", "--tags release", validate_remeasure=True)
    assert outcome.rc == 0 and "cosine similarity" in outcome.output, outcome.output

    outcome = live.work(validate_remeasure=True)
    assert outcome.rc == 0, outcome.output
    assert {path: path.read_bytes() for path in right} == right
    store = live.store() / live.state()["active"]
    assert (store / golden.name).read_bytes() == right[golden]
    assert (store / "manifest.json").read_bytes() == right[listed]


def test_a_rollback_knows_the_manifest_of_the_release(live):
    """Without the builder, too: the controller keeps which releases it brought."""
    release = live.state()["active"]
    assert live.run("rollback.yml").rc == 0
    kept = live.store() / release / "manifest.json"
    right = kept.read_bytes()
    listed = json.loads(right)
    listed["source"][0]["sha256"] = "0" * 64
    kept.write_bytes(manifest.dump(listed))
    refused = live.run("rollback.yml", rollback_to="last_good")
    said = " ".join(refused.output.split())
    assert refused.rc != 0 and "the one that was made has" in said, refused.output
    assert live.named_model() == "models/onnx/agi_audio_core.onnx"
    kept.write_bytes(right)
    assert live.run("rollback.yml", rollback_to=release).rc == 0
    assert live.named_model() == INT8
