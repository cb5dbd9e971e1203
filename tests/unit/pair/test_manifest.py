"""Manifests: deterministic, checked, and honest about files."""

from __future__ import annotations

import json
import subprocess

import pytest
from modelops.base.errors import ModelOpsError
from modelops.pair import manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"graph")
    (tmp_path / "m.onnx.data").write_bytes(b"weights")
    return tmp_path


def build(folder, **changes):
    files = [manifest.describe(folder / name) for name in ("m.onnx", "m.onnx.data")]
    fields = {"artifacts": files, "source": files, "recipe": {}, "nodes": [], "versions": {}}
    return manifest.build(**(fields | changes))


def test_equal_bits_are_the_same_release(folder):
    first, second = build(folder), build(folder, recipe={"other": 1})
    assert first["release_id"] == second["release_id"]
    assert manifest.RELEASE_ID.fullmatch(first["release_id"])
    assert manifest.dump(first) == manifest.dump(json.loads(manifest.dump(first)))
    (folder / "m.onnx.data").write_bytes(b"weightz")
    assert build(folder)["release_id"] != first["release_id"]


def test_sums_are_read_by_sha256sum(folder):
    (folder / manifest.SUMS).write_text(manifest.sums(build(folder)["artifacts"]))
    done = subprocess.run(
        ["sha256sum", "-c", manifest.SUMS], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_sums_must_agree_with_the_manifest(folder):
    artifacts = build(folder)["artifacts"]
    path = folder / "m.SHA256SUMS"
    assert manifest.sums_problems(folder, artifacts) == []
    path.write_text(
        manifest.sums(artifacts).replace("  ", " *").upper().replace("M.ONNX", "m.onnx")
    )
    assert len(manifest.sums_problems(folder, artifacts)) == 1  # ".DATA" is another name
    path.write_text("garbage\n")
    assert len(manifest.sums_problems(folder, artifacts)) == 2


def test_verify_tells_of_every_file(folder):
    entries = build(folder)["artifacts"]
    assert all(row["ok"] for row in manifest.verify(folder, entries))
    (folder / "m.onnx").unlink()
    (folder / "m.onnx.data").write_bytes(b"weightz")
    problems = [row["problem"] for row in manifest.verify(folder, entries)]
    assert problems[0] == "missing"
    assert "SHA-256" in problems[1]
    (folder / "m.onnx.data").write_bytes(b"short")
    (folder / "m.onnx").symlink_to("m.onnx.data")
    problems = [row["problem"] for row in manifest.verify(folder, entries)]
    link = "not a regular file but a symbolic link"
    assert problems == [link, "5 bytes instead of 7"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m.update(schema=2),
        lambda m: m.update(artifacts=[]),
        lambda m: m.update(release_id="0" * 16),
        lambda m: m["artifacts"][0].update(name="../m.onnx"),
        lambda m: m["artifacts"][0].update(name=".."),
        lambda m: m["artifacts"][0].update(size=-1),
        lambda m: m["artifacts"][0].update(sha256="xyz"),
        lambda m: m["source"][0].pop("size"),
    ],
)
def test_a_malformed_manifest_is_refused(folder, damage):
    broken = json.loads(manifest.dump(build(folder)))
    damage(broken)
    (folder / manifest.MANIFEST).write_text(json.dumps(broken))
    with pytest.raises(ModelOpsError, match="not a usable manifest"):
        manifest.load(folder / manifest.MANIFEST)


@pytest.mark.parametrize(("content", "word"), [(None, "no manifest"), (b"{", "not JSON")])
def test_no_manifest(folder, content, word):
    if content is not None:
        (folder / manifest.MANIFEST).write_bytes(content)
    with pytest.raises(ModelOpsError, match=word):
        manifest.load(folder / manifest.MANIFEST)
