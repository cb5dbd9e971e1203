"""What is wrong with a release in service, from what modules told. Runs on the controller."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ..base.finding import Finding, finding
from ..target import run_lock, served

Values = Mapping[str, Any]
# What mends a row that is not right, by its id: where nothing stands only a person can.
RELEASE, ROLLBACK, RESTART, CLEAR = "release", "rollback", "restart", "clear"
FIX = {
    "files": RELEASE,
    "drift_int8": RELEASE,
    "drift_fp32": ROLLBACK,
    "void": ROLLBACK,
    "lost_activation": ROLLBACK,
    "down": RESTART,
    "served": RESTART,
    "half_transfer": CLEAR,
}
AGAIN = "Run quantize.yml: what is wrong is sent and written again. Or diagnose_fix=true."
BACK = "Run rollback.yml. Or diagnose_fix=true."
START = "Restart it: systemctl restart of the unit. Or diagnose_fix=true."


def rows(asked: Values, looked: Values, plan: Values, manager: str) -> list[Finding]:
    """Return the rows on the release in service.

    Args:
        asked: the result of model_release with state query and verify.
        looked: the result of service_health with state query, or nothing.
        plan: `config` of the plan of the configuration (see config.plan.plan), or nothing.
        manager: what runs the service; `none` asks nothing.
    """
    if "state" not in asked:
        return []  # the row of its connection tells why
    state = asked["state"]
    found = [_files(asked), _void(state), _unfinished(asked), _drift(state, plan)]
    if manager != "none" and "unit" in looked:
        found += [_down(looked), _served(state, looked)]
    return [row for row in found if row]


def _files(asked: Values) -> Finding:
    told = "; ".join(asked["problems"])
    return finding("files and state", not told, told or "whole", "whole", AGAIN, name="files")


def _void(state: Values) -> Finding:
    active = state["active"]
    why = state["void"].get(active)
    return finding(
        "release in service", why is None, active if why is None else f"{active} is void: {why}",
        "not void", BACK, name="void",
    )  # fmt: skip


def _unfinished(asked: Values) -> Finding | None:
    """Judge an activation that nobody confirmed: a run may be at work, else it is lost."""
    state, lock = asked["state"], asked.get("lock")
    if state["confirmed"]:
        return None
    if run_lock.is_alive(lock):
        value = f"{state['active']}, a run is at work"
        return finding("activation", False, value, "confirmed", "Wait.", "advice", "activation")
    overdue = _seconds_after(state.get("deadline"))
    value = f"{state['active']} was never confirmed"
    if overdue is not None and overdue < 0:
        value += f"; the target goes back by itself in {-overdue:.0f} s"
    return finding("activation", False, value, "confirmed", BACK, name="lost_activation")


def _seconds_after(deadline: object) -> float | None:
    """Return how long ago a deadline was; None where nobody can say."""
    try:
        return time.time() - datetime.fromisoformat(str(deadline)).timestamp()
    except ValueError:
        return None


def _drift(state: Values, plan: Values) -> Finding | None:
    """Compare what the configuration names with what the state says."""
    config = plan.get("config") or {}
    if not config or config.get("unreadable") or config.get("content") is not None:
        return None  # the rows of the configuration tell of that
    wanted = served.FP32 if state["active"] == "fp32" else served.INT8
    edits = config.get(wanted)
    ok = edits == []
    value = f"{len(edits or [])} values are not those of {served.LABEL[wanted]}"
    said = f"as {served.LABEL[wanted]} needs it" if ok else value
    remedy = f"Somebody edited it. {BACK if wanted == served.FP32 else AGAIN}"
    name = f"drift_{wanted}"
    return finding("what the configuration says", ok, said, "what is active", remedy, name=name)


def _down(looked: Values) -> Finding:
    unit = looked["unit"]
    said = looked["problem"] or f"{unit['active']} since {unit['since']}"
    return finding("service", looked["healthy"], said, "healthy", START, name="down")


def _served(state: Values, looked: Values) -> Finding | None:
    """Compare the file that the processes hold with the one that is active."""
    if not looked["healthy"]:
        return None
    found = looked.get("served") or {"model": served.UNKNOWN, "text": "nobody looked"}
    wanted = served.FP32 if state["active"] == "fp32" else served.INT8
    label = served.LABEL[wanted]
    if found["model"] == served.UNKNOWN:
        remedy = "Set sarai_service_question: a service that answers has loaded its model."
        return finding("file it serves", False, found["text"], label, remedy, "advice", "unproven")
    remedy = (
        f"{START} If it stays so, its loader reads another key: see sarai_config_block and"
        " pipeline_mode."
    )
    ok = found["model"] == wanted
    return finding("file it serves", ok, found["text"], label, remedy, name="served")


def fixes(found: Iterable[Finding], strain: Iterable[Finding] = ()) -> list[str]:
    """Return what mends the rows that are not right, each once: ours, and those of the host."""
    wrong = [row["id"] for row in (*found, *strain) if row["level"] != "ok"]
    return sorted({FIX[name] for name in wrong if name in FIX})
