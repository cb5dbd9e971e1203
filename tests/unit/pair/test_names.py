"""Names of models and of their files: no path leaves its folder, no two models meet."""

from __future__ import annotations

import itertools

import pytest
from modelops.base.errors import ModelOpsError
from modelops.pair import manifest, names
from target import entry


@pytest.mark.parametrize(
    "model", ["agi_audio_core", "agi_audio_core_v2", "es_ES-x-low.1", "_", "7"]
)
def test_names_that_are_right(model):
    assert names.check(model) == model


@pytest.mark.parametrize(
    "model",
    ["", ".", "..", ".x", "-x", "a..b", "a/b", "a\\b", "a b", "voz_ñ", "x\n", "x" * 101, "$(x)",
     "a;b", "x_int8", "X_INT8", "x.onnx", "x.onnx.data", "x.manifest.json", "x.SHA256SUMS", "x.npz",
     "config", "reserve", "revert.pyz", "0123456789abcdef", "damaged-x", "unmanaged-x"],
)  # fmt: skip
def test_names_that_no_path_is_made_of(model):
    with pytest.raises(ModelOpsError, match="cannot be the name of a model") as caught:
        names.check(model)
    assert caught.value.remedy


def test_no_file_of_a_model_is_that_of_another():
    models = ["m", "m_v2", "m.v2", "M", "m_", "m-int8x", "golden", "m.golden"]
    for one, other in itertools.combinations(map(names.of, map(names.check, models)), 2):
        assert not set(one) & set(other)


def test_the_manifest_of_a_model_is_found(tmp_path):
    with pytest.raises(ModelOpsError, match="no manifest"):
        manifest.load(manifest.find(tmp_path, "m"))
    plain, own = written(tmp_path, "m", "manifest.json"), tmp_path / "m.manifest.json"
    assert manifest.find(tmp_path, "m") == manifest.find(tmp_path) == plain
    with pytest.raises(ModelOpsError, match=r"no manifest of m_v2; manifest\.json is that of m"):
        manifest.find(tmp_path, "m_v2")
    written(tmp_path, "m", own.name)
    assert manifest.find(tmp_path, "m") == manifest.find(tmp_path) == own
    second = written(tmp_path, "m_v2", "m_v2.manifest.json")
    assert manifest.find(tmp_path, "m") == own and manifest.find(tmp_path, "m_v2") == second
    with pytest.raises(ModelOpsError, match="several models"):
        manifest.find(tmp_path)


def test_what_another_version_left_is_known_by_its_manifest(tmp_path):
    plain = {"manifest.json", "SHA256SUMS", "golden.npz", "verdict.json"}
    for name in plain:
        (tmp_path / name).write_text("")
    assert manifest.plain_files(tmp_path, "m") == []
    written(tmp_path, "m", "manifest.json")
    assert {path.name for path in manifest.plain_files(tmp_path, "m")} == plain
    assert manifest.plain_files(tmp_path, "m_v2") == []


def test_sums_of_another_model_say_nothing(tmp_path):
    artifacts = manifest.load(written(tmp_path, "m", "m.manifest.json"))["artifacts"]
    (tmp_path / "SHA256SUMS").write_text(manifest.sums([entry("other_int8.onnx", b"1")]))
    assert manifest.sums_problems(tmp_path, artifacts) == []
    (tmp_path / "SHA256SUMS").write_text(manifest.sums([entry("m_int8.onnx", b"other")]))
    assert len(manifest.sums_problems(tmp_path, artifacts)) == 2
    (tmp_path / "m.SHA256SUMS").write_text(manifest.sums(artifacts))
    assert manifest.sums_problems(tmp_path, artifacts) == []


def written(folder, model, name):
    files = [entry(f"{model}_int8.onnx", b"graph"), entry(f"{model}_int8.onnx.data", b"data")]
    source = [entry(f"{model}.onnx", b"fp32")]
    path = folder / name
    path.write_bytes(manifest.dump(manifest.build(files, source, {}, [], {})))
    return path
