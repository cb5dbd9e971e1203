"""What was forged on a host beside its own proof: it is found, and made or sent again."""

from __future__ import annotations

import json

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
    outcome = live.run("quantize.yml")
    assert outcome.rc == 0, outcome.output
    assert {path: path.read_bytes() for path in right} == right
    assert live.named_model() == INT8 and live.state()["last_good"] == release

    # The id does not cover where a release comes from: only the manifest comes anew.
    listed = json.loads(right[kept])
    listed["source"][0]["sha256"] = "0" * 64
    kept.write_bytes(manifest.dump(listed))
    outcome = live.run("quantize.yml")
    assert outcome.rc == 0, outcome.output
    assert kept.read_bytes() == right[kept]
    assert not any("incoming" in task for _, task in outcome.changed_tasks())
    again = live.run("quantize.yml")
    assert again.rc == 0 and again.changed == {}, again.changed_tasks()
