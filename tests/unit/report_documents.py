"""What a run registers, and the document gathered of it: every part of a report is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelops.judging import gates
from modelops.pair import manifest, signed
from modelops.reporting import gather

TEMPLATES = Path(__file__).resolve().parents[2] / "roles/report/templates"
PROMISES = [{"name": "size_reduction", "op": ">=", "threshold": 0.74, "required": False}]
GATES = [
    {"name": "cosine_min", "op": ">", "threshold": 0.98},
    {"name": "agreement_min", "op": ">=", "threshold": 0.98},
    {"name": "speedup", "op": ">=", "threshold": 2.5, "required": False},
    {"name": "candidate_p50_s", "op": "<", "threshold": 2.5, "required": False},
]


def entry(name: str, size: int, digit: str = "0a") -> dict[str, Any]:
    return {"name": name, "size": size, "sha256": digit * 32}


def made(model: str = "agi_audio_core", digit: str = "0a", **more: Any) -> dict[str, Any]:
    """The manifest of a release; another digit makes another id."""
    source = [entry(f"{model}.onnx", 7600), entry(f"{model}.onnx.data", 4_300_000_000)]
    artifacts = [
        entry(f"{model}_int8.onnx", 8100, digit),
        entry(f"{model}_int8.onnx.data", 1_100_000_000, digit),
    ]
    nodes = [
        {"node": "embedded", "op": "Gather", "form": "rows_int8", "reason": "rows", "weight": "e"},
        *({"node": f"layer{i}", "op": "MatMul", "form": "dynamic_int8", "reason": "large",
           "weight": f"w{i}"} for i in range(4)),
        {"node": "scores", "op": "MatMul", "form": "fp32", "reason": "it has no constant weight",
         "weight": ""},
    ]  # fmt: skip
    versions = {"numpy": "2.4.6", "onnx": "1.23.2", "quantizer": "6"}
    plain = manifest.build(artifacts, source, {"granularity": "per_channel"}, nodes, versions)
    return {**signed.stamped(plain, model, 7, "2026-01-02T03:04:05Z", "pass"), **more}


def side(factor: float, text: str) -> dict[str, Any]:
    """The figures of a model; FP32 has the factor 1."""
    samples = [factor * (5.3 + 0.05 * (i * 7 % 20)) for i in range(20)]
    memory = [[i * 0.5, factor * min(4.3e9, 3e8 + i * 4e8)] for i in range(30)]
    return {
        "path": f"/srv/{text}.onnx", "load_s": 44 * factor, "first_s": 6 * factor,
        "p50_s": 5.7 * factor, "p95_s": 6.2 * factor, "p99_s": 6.3 * factor, "samples": samples,
        "peak_rss_bytes": int(4.4e9 * factor), "rss_without_output_bytes": int(4.3e9 * factor),
        "rss_model_bytes": int(4.2e9 * factor), "output_bytes": 100, "memory_over_time": memory,
        "providers": ["CPUExecutionProvider"], "providers_unused": [], "finite": True,
        "repeatable": True, "versions": {"onnxruntime": "1.32.0", "numpy": "2.4.6"},
        "cpu": {"model": text, "cores": 2, "features": ["avx2", "avx512_vnni"]},
    }  # fmt: skip


def comparison(text: str = "AMD EPYC") -> dict[str, Any]:
    """The result of onnx_compare on a target."""
    figures = {
        "cosine_min": 0.9981, "discrete_rows": 0, "candidate_p50_s": 1.9,
        "speedup": {"value": 2.6, "low": 2.4, "high": 2.9},
    }  # fmt: skip
    judged = gates.judge(GATES, figures)
    rows = [
        {"output": text, "sample": i, "cosine": 0.9981 + i / 1e4, "mse": 0.002, "mae": 0.03,
         "max_abs_error": 0.4, "sqnr_db": 24.1, "reference_rms": 0.64} for i in range(2)
    ]  # fmt: skip
    return {
        "changed": True, "judged": judged, "verdict": gates.overall(judged), "notes": [text],
        "reference": side(1, text), "candidate": side(1 / 3, text), "similarity_rows": rows,
        "way": {"mode": "both", "why": "the first that fits", "protection": "first to be killed"},
        "worst_channels": [{"output": text, "sample": 0, "channel": 7, "error": 0.12}],
    }  # fmt: skip


def facts(text: str = "AMD EPYC", **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the builder and a target know at the end of a run that released.

    Args:
        text: whatever a host may say, wherever it may say something.
        more: of the manifest.
    """
    listed = made(**more)
    finding = {"check": text, "level": "ok", "value": text, "threshold": "", "remedy": ""}
    builder = {
        "inventory_hostname": "builder",
        "__preflight_builder": {"findings": [finding], "took": took(0, 2)},
        "__quantize_manifest": listed,
        "__quantize_result": {
            "changed": True, "took": took(3, 6.5),
            "form_sizes": {"dynamic_int8": [4_200_000_000, 1_060_000_000], "rows_int8": [9, 3]},
        },
        "__quantize_gate": {**comparison(text), "took": took(10, 40)},
    }  # fmt: skip
    state = {"state": {"active": "fp32"}, "took": took(51, 0.6)}
    target = {
        "inventory_hostname": "target",
        "__preflight_target_host": {"findings": [finding], "took": took(0.5, 2)},
        "__transfer_state": state,
        "__transfer_sent": {
            "changed": True, "sent_bytes": 1_100_008_100, "elapsed_s": 9.8, "took": took(52, 10.4)
        },
        "__activate_result": {"changed": True, "took": took(63, 0.7)},
        "__sarai_service_look": {
            "rss_bytes": 4_400_000_000,
            "host_memory": {"used": 5_400_000_000, "total": 16_000_000_000},
        },
        "__sarai_service_health": {
            "rss_bytes": 1_200_000_000, "changed": True, "took": took(64, 21),
            "host_memory": {"used": 2_300_000_000, "total": 16_000_000_000},
        },
        "__validate_measured": {**comparison(text), "took": took(86, 90)},
        "__validate_tests": [{"name": "load", "ok": True, "text": text}],
        "__validate_verdict": "pass",
        "__validate_serves": {"proof": "mapped", "text": text},
        "__activate_commit": {"changed": True, "took": took(177, 0.4)},
        "__release_outcome": text,
    }  # fmt: skip
    return builder, [target]


def took(began: float, seconds: float) -> dict[str, float]:
    return {"began": 1_764_000_000 + began, "seconds": seconds}


def document(text: str = "AMD EPYC", **more: Any) -> dict[str, Any]:
    """The document of such a run."""
    return gather.report(*facts(text, **more), PROMISES, {"ansible-core": "2.19.14"})
