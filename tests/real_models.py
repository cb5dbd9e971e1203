"""Real, public models of several kinds out of PyPI wheels, with inputs that are typical for them.

Only the .onnx files inside the wheels are used (requirements/models.in), nothing of their code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from modelops.model.walk import all_graphs
from numpy.typing import NDArray
from onnx import TensorProto

Inputs = dict[str, NDArray]

# What is promised of each: cosine to FP32, and size by FP32's. The size where the weights are
# nearly the whole file: the rest (names, shapes, vectors) stays as it is.
LEAST_COSINE, LARGEST = 0.98, 0.4
DOMINATED = 0.9

# The digits on a raster of 3 x 5, a row a character of five bits.
BITS = (
    0b111101101101111, 0b010110010010111, 0b111001111100111, 0b111001111001111, 0b101101111001001,
    0b111100111001111, 0b111100111101111, 0b111001001001001, 0b111101111101111, 0b111101111001111,
)  # fmt: skip
# tashkeel's letters, from its number 18 on.
ARABIC = "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي"


@dataclass(frozen=True)
class RealModel:
    """A model of a wheel.

    Attributes:
        kind: what it is, for the tables.
        package: the import name of the wheel's package.
        inside: the file inside of the package.
        inputs: makes typical inputs from a seed.
    """

    name: str
    kind: str
    package: str
    inside: str
    inputs: Callable[[int], Inputs]

    @property
    def path(self) -> Path:
        spec = find_spec(self.package)
        assert spec and spec.submodule_search_locations, f"{self.package} is not installed"
        return Path(spec.submodule_search_locations[0]) / self.inside

    def save_inputs(self, path: Path, seed: int = 0) -> Path:
        np.savez(path, **self.inputs(seed))
        return path


def weight_share(path: Path, whole: int) -> float:
    """Return how much of a model are the values of floating-point matrices and stacks.

    Args:
        whole: bytes of its files.
    """
    size = 0
    for graph in all_graphs(onnx.load(path, load_external_data=False).graph):
        tensors = [*graph.initializer]
        tensors += [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
        size += sum(
            4 * math.prod(tensor.dims)
            for tensor in tensors
            if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1
        )
    return size / whole


def text_image(height: int, width: int, scale: int, seed: int) -> NDArray:
    """Dark digits, 5 `scale` high, on light, noisy paper: [3, height, width] in [0, 1]."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width), 0.9, np.float32)
    line = min(height, 9 * scale)
    for top in range((line - 5 * scale) // 2, height - 5 * scale, line):
        for left in range(2 * scale, width - 4 * scale, 4 * scale):
            bits = BITS[rng.integers(10)]
            glyph = np.array([bits >> i & 1 for i in range(14, -1, -1)], np.float32).reshape(5, 3)
            ink = np.kron(glyph, np.ones((scale, scale), np.float32))
            image[top : top + 5 * scale, left : left + 3 * scale] -= 0.8 * ink
    return (image + 0.02 * rng.standard_normal((3, height, width))).clip(0, 1).astype(np.float32)


def image(
    name: str, height: int, width: int, scale: int, low: float = -1.0, high: float = 1.0
) -> Callable[[int], Inputs]:
    """A batch of one image with values from `low` to `high`."""

    def make(seed: int) -> Inputs:
        pixels = text_image(height, width, scale, seed)[None]
        return {name: (low + (high - low) * pixels).astype(np.float32)}

    return make


def vowel(rate: int, samples: int, seed: int) -> NDArray:
    """The harmonics of a voice, as loud as its three formants let them: [1, samples]."""
    rng = np.random.default_rng(seed)
    time, pitch = np.arange(samples) / rate, rng.uniform(100, 200)
    wave = 0.005 * rng.standard_normal(samples)
    for harmonic in np.arange(pitch, min(rate / 2, 6000), pitch):
        formants = ((700, 90), (1200, 110), (2600, 150))
        gain = sum(1 / (1 + ((harmonic - at) / width) ** 2) for at, width in formants)
        wave += 0.25 * gain * np.sin(2 * np.pi * harmonic * time)
    return wave[None].astype(np.float32)


def speech(rate: int, samples: int) -> Callable[[int], Inputs]:
    """A piece of a vowel, and what was heard before it."""

    def make(seed: int) -> Inputs:
        state = 0.3 * np.random.default_rng(seed).standard_normal((2, 1, 128))
        return {
            "input": vowel(rate, samples, seed),
            "state": state.astype(np.float32),
            "sr": np.array(rate, np.int64),
        }

    return make


def recording(seed: int) -> Inputs:
    """Nine seconds."""
    return {"input_1": vowel(16000, 144160, seed)}


def spectra(seed: int) -> NDArray:
    """The power of a vowel in decibels around 0: [1, 1, 120, 257]."""
    wave = vowel(16000, 120 * 256 + 256, seed)[0]
    frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::256] * np.hanning(512)
    power = 20 * np.log10(np.abs(np.fft.rfft(frames)) + 1e-4)
    return (power / 20).astype(np.float32)[None, None]


def far_and_near(seed: int) -> Inputs:
    """The far end, the microphone and what an echo canceller made of them."""
    heard = [spectra(seed + i)[0, :, :, :160].clip(-1, 1) for i in range(3)]
    return {"input": np.stack(heard, 1), "h0": np.zeros((4, 1, 96), np.float32)}


def rated(seed: int) -> Inputs:
    """A recording with gaps, and who rates it."""
    rater = np.random.default_rng(seed).standard_normal((1, 64))
    return {"degraded_audio": spectra(seed), "rater_embed": rater.astype(np.float32)}


def file_bytes(seed: int) -> Inputs:
    """The first and the last 1024 bytes of a small program; 256 stands for no byte."""
    rng = np.random.default_rng(seed)
    names = ["value", "total", "index", "result"]
    lines = [f"    {names[rng.integers(4)]} = {rng.integers(100)} + index\n" for _ in range(30)]
    text = ("import sys\n\n\ndef main(index):\n" + "".join(lines) + "    return index\n").encode()
    half = np.full(1024, 256, np.int32)
    half[: len(text)] = np.frombuffer(text[:1024], np.uint8)
    return {"bytes": np.concatenate([half, np.roll(half, 1024 - len(text))])[None]}


def letters(seed: int) -> Inputs:
    """A name of twelve letters."""
    rng = np.random.default_rng(seed)
    return {
        "src": rng.integers(4, 40, (1, 12), np.int64),
        "src_mask": np.zeros((1, 12), np.bool_),
    }


def half_written(seed: int) -> Inputs:
    """What an encoder gave for a name, and six letters written so far."""
    rng = np.random.default_rng(seed)
    return {
        "prefix": rng.integers(4, 60, (1, 6), np.int64),
        "memory": rng.uniform(-1, 1, (1, 12, 256)).astype(np.float32),
        "src_mask": np.zeros((1, 12), np.bool_),
        "hidden": rng.uniform(-1, 1, (1, 2, 256)).astype(np.float32),
    }


def bare_hebrew(seed: int) -> Inputs:
    """Two dozen letters without vowels."""
    return {"input_1": np.random.default_rng(seed).integers(1, 43, (1, 24)).astype(np.float32)}


def bare_arabic(seed: int) -> Inputs:
    """Five words, without a hint of a vowel."""
    words = ["السلام", "عليكم", "كتب", "الولد", "الدرس", "في", "المدرسة", "ذهب"]
    text = " ".join(np.random.default_rng(seed).choice(words, 5))
    ids = [1 if letter == " " else 18 + ARABIC.index(letter) for letter in text]
    return {
        "char_inputs": np.array([ids], np.int64),
        "diac_inputs": np.zeros((1, len(ids)), np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
    }


_VOICE, _NAMES = "voice activity", "arabic_name_romanizer"
MODELS = (
    RealModel("silero-vad", _VOICE, "silero_vad", "data/silero_vad.onnx", speech(16000, 576)),
    RealModel("silero-vad 8 kHz", _VOICE, "silero_vad", "data/silero_vad.onnx", speech(8000, 288)),
    RealModel(
        "silero-vad opset 15", _VOICE, "silero_vad", "data/silero_vad_16k_op15.onnx",
        speech(16000, 576),
    ),
    RealModel(
        "silero-vad ifless", _VOICE, "silero_vad", "data/silero_vad_op18_ifless.onnx",
        speech(16000, 576),
    ),
    RealModel(
        "dnsmos", "speech quality", "speechmos", "dnsmos_models/sig_bak_ovr.onnx", recording
    ),
    RealModel(
        "aecmos", "speech quality", "speechmos", "aecmos_models/Run_1668423760_Stage_0.onnx",
        far_and_near,
    ),
    RealModel("plcmos", "speech quality", "speechmos", "plcmos_models/plcmos_v2.onnx", rated),
    RealModel("nakdimon", "Hebrew vowels", "piper", "hebrew/nakdimon.onnx", bare_hebrew),
    RealModel("tashkeel", "Arabic vowels", "piper", "tashkeel/model.onnx", bare_arabic),
    RealModel("romanizer encoder", "text encoder", _NAMES, "resources/encoder.onnx", letters),
    RealModel("romanizer decoder", "text decoder", _NAMES, "resources/decoder.onnx", half_written),
    RealModel(
        "magika", "file type classifier", "magika", "models/standard_v3_3/model.onnx", file_bytes
    ),
    RealModel(
        "captcha crnn", "text recognition", "captcha_whisperer", "models/captcha_crnn.onnx",
        image("image", 60, 160, 6, 0, 255),
    ),
    RealModel(
        "pp-ocr det", "text detection", "rapidocr", "models/PP-OCRv6_det_small.onnx",
        image("x", 320, 320, 5),
    ),
    RealModel(
        "pp-ocr rec", "text recognition", "rapidocr", "models/PP-OCRv6_rec_small.onnx",
        image("x", 48, 320, 7),
    ),
    RealModel(
        "pp-ocr cls", "text direction", "rapidocr",
        "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", image("x", 48, 192, 7),
    ),
)  # fmt: skip
