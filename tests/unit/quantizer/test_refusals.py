"""What the quantizer refuses: the cause is said, and no file changed."""

from __future__ import annotations

import os
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from modelops.base.errors import ModelOpsError
from modelops.base.file_lock import exclusive
from modelops.quantizer import data_file
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from onnx import TensorProto, helper


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    return models.voice(tmp_path / "voice.onnx")


def go(src: Path, dest: Path | None = None, **options) -> dict:
    recipe = Recipe(**options.pop("recipe", {}))
    return quantize(src, dest or src.with_name("out.onnx"), recipe, **options)


def refused(src: Path, *words: str, **options) -> ModelOpsError:
    """Quantizing is refused, the error says `words`, and no file changed."""
    before = models.tree(src.parent)
    with pytest.raises(ModelOpsError) as caught:
        go(src, **options)
    for word in words:
        assert word in str(caught.value)
    assert models.tree(src.parent) == before
    return caught.value


def test_missing_source(tmp_path):
    refused(tmp_path / "none.onnx", "none.onnx", "no such model file")


def test_missing_data_is_one_problem(voice):
    voice.with_name("voice.onnx.data").unlink()
    error = refused(voice, "voice.onnx.data", "missing", "Export or copy")
    assert "problems" not in error.facts


def test_truncated_data(voice):
    data = voice.with_name("voice.onnx.data")
    data.write_bytes(data.read_bytes()[:-8])
    refused(voice, "voice.onnx.data", "truncated")


@pytest.mark.parametrize(("content", "word"), [(b"", "empty"), (b"PK\3\4 no onnx", "not an ONNX")])
def test_not_onnx(tmp_path, content, word):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    refused(path, "x.onnx", word)


def redirect(path: Path, location: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "location",
    ["../voice.onnx.data", "a/../../x", "/etc/passwd", "C:\\x", "\\\\host\\x", "..\\x", ""],
)
def test_data_outside_the_folder(voice, location):
    redirect(voice, location)
    refused(voice, "leads out of the model's folder")


def test_data_through_a_symlink(voice, tmp_path):
    os.symlink("voice.onnx.data", voice.with_name("link"))
    redirect(voice, "link")
    refused(voice, "link", "symbolic link")
    (tmp_path / "folder").symlink_to(tmp_path)
    redirect(voice, "folder/voice.onnx.data")
    refused(voice, "symbolic link")


def test_data_with_several_hard_links(voice):
    os.link(voice.with_name("voice.onnx.data"), voice.with_name("second"))
    refused(voice, "voice.onnx.data", "2 hard links")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("op", ["MatMul", "Gather"])
def test_nan_and_inf(tmp_path, value, granularity, op):
    weight = models.random_weight(8, 8)
    weight[3, 5] = value
    if op == "MatMul":
        src = models.matmul(tmp_path / "m.onnx", 8, 8, weight)
    else:
        src = models.save(
            tmp_path / "m.onnx",
            [helper.make_node("Gather", ["w", "i"], ["y"], name="g")],
            {"w": weight},
            {"i": (TensorProto.INT64, [2])},
            {"y": (TensorProto.FLOAT, [2, 8])},
        )
    refused(src, "'w'", "NaN or Inf", "exclude_nodes", recipe={"granularity": granularity})


def test_names_that_no_node_has_are_a_warning(tmp_path):
    src = models.matmul(tmp_path / "m.onnx", 64, 64)
    recipe = {"exclude_nodes": ("head_*", "m*"), "forms": {"mmm": "fp32", "mm": "fp32"}}
    (note, _) = go(src, recipe=recipe)["notes"]
    assert note == "No node is called 'head_*' (exclude_nodes), 'mmm' (forms). There are mm."
    assert not go(src, recipe={"exclude_nodes": ("q*",), "forms": {"mm": "weight_int8"}})["notes"][
        1:
    ]
    assert go(src, recipe={"forms": {"mm": "weight_int8"}})["notes"] == []


def test_forms_that_there_are_not_or_a_node_cannot_have(tmp_path):
    src = models.matmul(tmp_path / "m.onnx", 512, 512)
    refused(src, "no form 'int4' of 'mm'", "dynamic_int8, ", recipe={"forms": {"mm": "int4"}})
    voice = models.voice(tmp_path / "voice.onnx")
    (note,) = go(voice, recipe={"forms": {"emb": "dynamic_int8"}})["notes"]
    assert note == (
        "emb cannot be dynamic_int8, so it is rows_int8: embedding rows, a scale a row."
    )


def test_already_quantized(voice):
    go(voice, recipe={"forms": dict.fromkeys(("mm1", "mm2", "head"), "dynamic_int8")})
    refused(voice.with_name("out.onnx"), "already quantized", "MatMulInteger")


def test_unknown_operator_domain(tmp_path):
    src = models.save(
        tmp_path / "m.onnx",
        [helper.make_node("Magic", ["x", "w"], ["y"], name="m", domain="vendor")],
        {"w": models.random_weight(8, 8)},
        {"x": (TensorProto.FLOAT, [2, 8])},
        {"y": (TensorProto.FLOAT, [2, 8])},
    )
    refused(src, "vendor::Magic")


def test_several_problems_come_at_once(voice):
    model = onnx.load(voice, load_external_data=False)
    model.graph.node.append(helper.make_node("MatMulInteger", ["codes", "w1"], ["c"]))
    voice.write_bytes(model.SerializeToString())
    voice.with_name("voice.onnx.data").unlink()
    error = refused(voice, "already quantized", "missing")
    assert len(error.facts["problems"]) == 2


def test_destination_is_the_source(voice):
    refused(voice, "file of the source", dest=voice)
    renamed = voice.with_name("other.onnx")
    voice.with_name("voice.onnx.data").rename(renamed.with_name("other.onnx.data"))
    redirect(voice, "other.onnx.data")
    refused(voice, "file of the source", dest=renamed)


def test_destination_folder_is_missing(voice):
    refused(voice, "does not exist", "Create it", dest=voice.parent / "no" / "none" / "out.onnx")


@pytest.mark.parametrize("length", [246, 300])
def test_destination_with_a_name_too_long(voice, length):
    refused(voice, "cannot be named so", dest=voice.with_name("o" * length + ".onnx"))


def test_destination_is_a_link_or_folder(voice):
    voice.with_name("out.onnx").symlink_to("elsewhere")
    refused(voice, "not a regular file")
    voice.with_name("out.onnx").unlink()
    voice.with_name("out.onnx.data").mkdir()
    refused(voice, "not a regular file")


def test_not_enough_space(voice, monkeypatch):
    from modelops.base import files

    usage = files.shutil.disk_usage(voice.parent)._replace(free=100)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    error = refused(voice, "not enough disk space", "100 bytes free")
    assert error.facts["free_bytes"] == 100
    assert error.facts["needed_bytes"] > 1000


def test_source_changed_while_reading(voice, monkeypatch):
    original = data_file.Layout.stream

    def touching(self, *args):
        os.utime(voice.with_name("voice.onnx.data"), ns=(1, 1))
        return original(self, *args)

    monkeypatch.setattr(data_file.Layout, "stream", touching)
    refused(voice, "changed while it was read")


def test_disk_full_in_the_middle_leaves_the_old_pair(voice, monkeypatch):
    import errno

    go(models.voice(voice.with_name("other.onnx"), seed=9), voice.with_name("out.onnx"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data_file.Layout, "stream", full)
    refused(voice, "disk became full", force=True)


def test_second_writer_is_told_who_holds_the_lock(voice):

    with exclusive(voice.with_name(".out.onnx.lock"), "quantizing to out.onnx"):
        error = refused(voice, "another run is at work", f"process {os.getpid()}", "since")
        assert "Wait for it" in error.remedy
