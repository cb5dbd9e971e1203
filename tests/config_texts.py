"""Configurations as owners write them, for the tests: made up, each with its own difficulty."""

from __future__ import annotations

from typing import Any

FP32 = "models/onnx/agi_audio_core.onnx"
INT8 = "models/onnx/agi_audio_core_int8.onnx"

# Our block is not at the top; its keys stand in sibling blocks too.
NESTED = """\
# ┌────────────────────────────────────────────┐
# │ Asistente: configuración central  🎙       │
# └────────────────────────────────────────────┘
general:
  idioma: "es"      # español por defecto
  n_threads: 6

memoria:
  max_memory_mb: 12000   # todo el sistema

models:
  # ── Nivel 1: razonamiento ──
  expert:
    name: "expert-10b"
    max_memory_mb: 200  #	solo el cliente (antes 6144)
    temperature: 0.7

  # ══════════════════════════════════════
  # AUDIO: agi_audio_core.onnx, más tarde agi_audio_core_int8.onnx
  # ══════════════════════════════════════
  audio_omni:
    name: "Omni-3B"

    # la forma de trabajar
    pipeline_mode: "monolithic"  # o "modular": entonces talker_path
    talker_path: "models/onnx/talker.onnx"
    model_path: "models/onnx/agi_audio_core.onnx"   # 4.3 GB ⚠ no mover

    max_memory_mb: 4400  # nunca menos
    permanent: true  # ✅ siempre
    sample_rate: 22050

  vision:
    name: "vision-4b"
    max_memory_mb: 3300
    skills:
      programming:
        max_memory_mb: 800
        domains: ["código", "función"]

logging: {level: INFO, file: /var/log/asistente.log}
"""


def wanted(**changed: Any) -> dict[str, Any]:
    """What an inventory says about a configuration, as the role sarai gives it to the filters."""
    return {
        "file": "/srv/SARAi/config/sarai.yaml",
        "home": "/srv/SARAi",
        "manager": "yaml",
        "block": "auto",
        "block_name": "audio_omni",
        "path_key": "model_path",
        "fp32": {"model_path": FP32, "max_memory_mb": 4400},
        "int8": {"model_path": INT8, "max_memory_mb": 1200},
        "add": [],
        "requires": {"pipeline_mode": "monolithic"},
        **changed,
    }


def lines_that_differ(one: str, other: str) -> list[tuple[str, str]]:
    """The lines of two texts of equally many lines that are not equal, in pairs."""
    pairs = zip(one.split("\n"), other.split("\n"), strict=True)
    return [(a.strip(), b.strip()) for a, b in pairs if a != b]
