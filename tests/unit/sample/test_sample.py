"""The look-alike model: valid, deterministic, of the size asked, and never a mixed pair."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.sample import sample
from modelops.sample.graph import CODEBOOK_SIZE, HEAD_WIDTH, LAYERS, MEL_BINS
from modelops.sample.sample import make_sample, plan
from onnxruntime.quantization import QuantType, quantize_dynamic
from subprocesses import through_ansible

ROOT = Path(__file__).parents[3]


def infer(path: Path, codes: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"audio_codes": codes})[0]


def codes_for(steps: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, CODEBOOK_SIZE, (1, 16, steps))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(megabytes=st.integers(1, 4400))
def test_any_size_is_met_and_matrices_dominate(megabytes: int):
    shape = plan(megabytes)
    d, hidden = shape.width, shape.hidden
    embedding, head = CODEBOOK_SIZE * d, MEL_BINS * d
    matrices = LAYERS * (4 * d * d + 2 * d * hidden) + head
    assert 0.95 < (embedding + matrices) * 4 / (megabytes * 1e6) <= 1
    assert embedding <= 0.15 * (embedding + matrices)
    assert d % HEAD_WIDTH == 0
    assert hidden >= 4 * d


def test_the_pair_is_valid_and_of_the_promised_form(tmp_path: Path):
    path = tmp_path / "m.onnx"
    result = make_sample(path, 2, steps=8, upsample=3)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    assert (model.ir_version, model.opset_import[0].version) == (10, 20)
    mel = infer(path, codes_for(8))
    assert (mel.shape, mel.dtype) == ((1, 2048, 24), np.float32)
    assert np.isfinite(mel).all()
    assert np.array_equal(mel[..., 0::3], mel[..., 2::3])  # each frame is held
    assert np.std(mel[..., ::3], axis=-1).mean() > 0.1
    assert [a["size"] for a in result["artifacts"]] == [
        path.stat().st_size,
        Path(f"{path}.data").stat().st_size,
    ]
    assert 1.9e6 < result["artifacts"][1]["size"] < 2.1e6
    assert sorted(contents(tmp_path)) == ["m.onnx", "m.onnx.data"]


def test_equal_arguments_give_equal_bytes_and_others_do_not(tmp_path: Path):
    hashes = []
    for number, options in enumerate([{}, {}, {"seed": 1}, {"outlier": 3.0}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        result = make_sample(folder / "m.onnx", 1, **options)
        hashes.append([artifact["sha256"] for artifact in result["artifacts"]])
    assert hashes[0] == hashes[1]
    assert len({data for _, data in hashes}) == 3


def test_the_bytes_are_these_on_every_system(tmp_path: Path):
    result = make_sample(tmp_path / "m.onnx", 1)
    assert result["artifacts"][1]["sha256"] == (
        "705c15feaa43b5d26f5fdbae373c12b3effd39efae4ae636cbb78480be159b46"
    )


def test_what_is_there_is_left_alone_and_anything_else_is_replaced(tmp_path: Path):
    path = tmp_path / "m.onnx"
    data = Path(f"{path}.data")
    made = make_sample(path, 1)
    before, times = contents(tmp_path), [p.stat().st_mtime_ns for p in (path, data)]
    assert make_sample(path, 1) == {**made, "changed": False}
    assert [p.stat().st_mtime_ns for p in (path, data)] == times

    def flip() -> None:
        raw = bytearray(data.read_bytes())
        raw[len(raw) // 2] ^= 1
        data.write_bytes(raw)

    spoil = [
        flip,
        lambda: data.write_bytes(data.read_bytes() + b"\0"),
        lambda: data.write_bytes(data.read_bytes()[:-1]),
        lambda: path.write_bytes(b""),
        path.unlink,
        data.unlink,
    ]
    for damage in spoil:
        damage()
        damaged = contents(tmp_path)
        assert make_sample(path, 1, check_mode=True)["changed"]
        assert contents(tmp_path) == damaged
        assert make_sample(path, 1)["changed"]
        assert contents(tmp_path) == before


def test_a_failure_between_the_files_leaves_no_old_graph_with_new_data(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    make_sample(path, 1)
    rename = sample.rename_durable

    def fail_for_the_graph(source: Path, destination: Path) -> None:
        if destination == path:
            raise OSError("power cut")
        rename(source, destination)

    monkeypatch.setattr(sample, "rename_durable", fail_for_the_graph)
    with pytest.raises(OSError, match="power cut"):
        make_sample(path, 1, seed=1)
    assert sorted(contents(tmp_path)) == ["m.onnx.data"]
    monkeypatch.undo()
    assert make_sample(path, 1, seed=1)["changed"]
    onnx.checker.check_model(str(path))


def test_per_channel_is_clearly_closer_than_per_tensor(tmp_path: Path):
    path = tmp_path / "m.onnx"
    make_sample(path, 10, steps=32)
    codes = codes_for(32)
    reference = infer(path, codes).ravel().astype(np.float64)
    cosine = {}
    for per_channel in (False, True):
        quantized = tmp_path / f"q{per_channel}.onnx"
        quantize_dynamic(path, quantized, weight_type=QuantType.QInt8, per_channel=per_channel)
        found = infer(quantized, codes).ravel()
        norms = np.linalg.norm(found) * np.linalg.norm(reference)
        cosine[per_channel] = found @ reference / norms
    assert cosine[False] < 0.98 < cosine[True]


@pytest.mark.parametrize(
    "arguments",
    [
        {"megabytes": 0},
        {"megabytes": 4401},
        {"steps": 0},
        {"upsample": 0},
        {"seed": -1},
        {"outlier": 0.5},
        {"outlier": float("nan")},
        {"path": "m.bin"},
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path: Path, arguments: dict):
    arguments = {"path": "m.onnx", "megabytes": 1, **arguments}
    with pytest.raises(ModelOpsError):
        make_sample(tmp_path / arguments.pop("path"), **arguments)
    assert contents(tmp_path) == {}


def test_memory_stays_bounded(tmp_path: Path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from modelops.sample.sample import make_sample\n"
        "make_sample(Path(sys.argv[2]), 150)\n"
        "from modelops.base.memory import resident\n"
        "print(resident()[1])"
    )
    arguments = [str(ROOT / "module_utils"), str(tmp_path / "m.onnx")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100e6


def test_through_ansible(tmp_path: Path):
    options = {"path": str(tmp_path / "m.onnx"), "megabytes": 1}
    runs = (["--check"], [], [])
    changes = [through_ansible("sample_model", options, *extra)["changed"] for extra in runs]
    assert changes == [True, True, False]
