"""The owner's tests of a release on a target, and what the service really serves, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import served

Values = Mapping[str, Any]


def service_serves(manager: str, restarted: Values, looked: Values, answered: Values) -> Values:
    """Return which model the service serves, and by what that is proven; see served.judge.

    Args:
        manager: what runs the service; `none` asks and restarts nothing.
        restarted: the result of service_health at the restart of this run, or nothing.
        looked: its result without a restart, or nothing.
        answered: the result of service_answer, or nothing.
    """
    found = restarted.get("served") or looked.get("served")
    if manager == "none":
        found = _unknown("nothing was restarted or asked, sarai_service_manager is none")
    return served.with_answer(found or _unknown("its processes were not looked at"), answered)


def _unknown(text: str) -> dict[str, Any]:
    return {"model": served.UNKNOWN, "proof": served.NONE, "text": text, "seen": []}


def outcome(found: Values) -> str:
    """Say that a release is in service, and when that is not proven, so."""
    if found["proof"] != served.NONE:
        return "in service"
    return (
        "in service, but which file the process serves could not be proven:"
        f" {found['text']}"
    )  # fmt: skip


def tests(
    measured: Values, found: Values, config: Values, manifest: Values, answered: Values,
    serves: Values,
) -> list[dict[str, Any]]:  # fmt: skip
    """The owner's five tests on a target: what was looked at, whether it is right, and the words.

    A sixth is what the service itself answers, where a question is configured.

    Args:
        measured: the result of onnx_compare on the target.
        found: the result of model_release with state query and verify.
        config: the plan of the configuration; no edits left means that it names INT8.
        manifest: the manifest of the release.
        answered: the result of service_answer, or nothing.
        serves: what `service_serves` returned.
    """
    int8, release_id = measured["candidate"], manifest["release_id"]
    state = found["state"]
    in_place = state["live"] == release_id and release_id in found["whole"]
    fp32 = measured.get("reference")
    against = f" against {fp32['p50_s']:.3g} s" if fp32 else ""
    said = f"names the release {state['active']}, {len(config['int8'])} values differ"
    looks = [
        ("load", int8["load_s"] > 0, f"loaded in {int8['load_s']:.3g} s"),
        (
            "inference",
            int8["finite"] and int8["repeatable"],
            f"finite: {int8['finite']}, repeatable: {int8['repeatable']}",
        ),
        (
            "configuration",
            not config["int8"] and state["active"] == release_id and not refuses(serves),
            f"{said}; the service: {serves['text']}",
        ),
        (
            "files",
            in_place and not found["problems"],
            "; ".join(found["problems"]) or f"hashes of {release_id}: {in_place}",
        ),
        (
            "performance",
            all(row["verdict"] != "fail" for row in measured["judged"] if row["required"]),
            f"P50 {int8['p50_s']:.3g} s{against}",
        ),
    ]
    if answered:
        cosine = f"cosine {answered.get('cosine', 0):.4g}"
        why = answered.get("problem") if "compared" in answered else answered.get("msg")
        looks.append(("answer", "compared" in answered, why or cosine))
    return [{"name": n, "ok": bool(ok), "text": f"{n}: {text}"} for n, ok, text in looks]


def refuses(serves: Values) -> bool:
    """Tell whether the service is known to serve FP32, so that INT8 is not in service."""
    return bool(serves["model"] == served.FP32)


def is_the_releases_fault(tests: list[Values], measured: Values) -> bool:
    """Tell whether a release that failed must never come again.

    A service that does not read its configuration is no fault of the release's.
    """
    wrong = {test["name"] for test in tests if not test["ok"]} - {"configuration"}
    return bool(wrong) or measured["verdict"] == "fail"
