"""Gates that measured figures must pass, and the record of measurements. Standard library only.

A figure is a number, or `{"value", "low", "high"}` when it is known only within a spread. Figures
must survive JSON: what is not finite is spelled "nan", "inf" or "-inf" (`json_safe`).
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from ..base.json_values import json_safe

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
NOT_APPLICABLE = "not_applicable"  # the model has no output that the figure is of
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# What a gate is, as options of a module.
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "op": {"type": "str", "choices": list(OPERATORS), "required": True},
    "threshold": {"type": "float", "required": True},
    "required": {"type": "bool", "default": True},
    "promised_threshold": {"type": "float"},
}
# NaN in one of these means that a model gave values that are not finite: that fails. NaN in any
# other figure means that it could not be measured: that is inconclusive.
FLOATS = frozenset({
    "cosine_min", "cosine_mean", "mse", "mse_mean", "mae", "mae_mean", "max_abs_error", "sqnr_db",
})  # fmt: skip
COMPARING = frozenset({"speedup", "rss_ratio", "load_ratio"})
DISCRETE = frozenset({"agreement_min", "agreement_mean"})
# What is wanted of outputs that are not floats, where gates name floats alone: the
# share that sarai_gate_agreement_min has by default.
AGREEMENT: Mapping[str, Any] = {"name": "agreement_min", "op": ">=", "threshold": 0.98}
RECORD_SCHEMA = 1
# What a search may be asked to keep, by name: the figure, and how it is held against a threshold.
QUALITY: Mapping[str, tuple[str, str]] = {
    "cosine": ("cosine_min", ">"),
    "mse": ("mse", "<"),
    "mae": ("mae", "<"),
    "sqnr_db": ("sqnr_db", ">"),
    "agreement": ("agreement_min", ">="),
}


@dataclass(frozen=True)
class Gate:
    """A threshold for a figure.

    Args:
        name: the figure's name; several gates may judge one figure.
        op: "<", "<=", ">" or ">=": `figure op threshold` passes.
        threshold: in the figure's own unit.
        required: it decides the verdict; otherwise it is a promise that is only reported.
        promised_threshold: what the owner was promised, when `threshold` may have been changed.
    """

    name: str
    op: str
    threshold: float
    required: bool = True
    promised_threshold: float | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Gate:
        """Make a gate from a dictionary of its arguments.

        Raises:
            ModelOpsError: a field is missing, unknown or malformed.
        """
        known = {"name", "op", "threshold", "required", "promised_threshold"}
        missing = {"name", "op", "threshold"} - set(fields)
        problem = ""
        if missing or set(fields) - known:
            problem = f"its fields are {sorted(fields)}"
        elif fields["op"] not in OPERATORS:
            problem = f"its op is {fields['op']!r}"
        else:
            promised = fields.get("promised_threshold")
            required = fields.get("required", True)
            threshold = _number(fields["threshold"])
            promise = None if promised is None else _number(promised)
            if not _is_finite(threshold) or (promised is not None and not _is_finite(promise)):
                problem = f"a threshold of it is no number: {fields['threshold']!r}, {promised!r}"
            elif not isinstance(required, bool):
                problem = f"its `required` is {required!r}"
            else:
                assert threshold is not None
                return cls(str(fields["name"]), fields["op"], threshold, required, promise)
        raise ModelOpsError(
            f"a gate is malformed: {problem}",
            where=f"gate {fields.get('name', '')!r}",
            remedy="Give name, op (<, <=, > or >=), threshold, and optionally required (true or"
            " false) and promised_threshold.",
        )


def kept_quality(gates: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return what the quantizer must keep so that the required gates on similarity pass.

    Returns:
        Thresholds by their names in QUALITY. Gates on other figures have none.

    Raises:
        ModelOpsError: a gate is malformed, or asks for more than the op by which a search judges.
    """
    options = {figure: (name, op) for name, (figure, op) in QUALITY.items()}
    wanted = {}
    for gate in map(Gate.parse, gates):
        if not gate.required or gate.name not in options:
            continue
        name, op = options[gate.name]
        if gate.op not in (op, f"{op[0]}="):  # above it is at least it, too
            raise ModelOpsError(
                f"its op is {gate.op!r}",
                where=f"gate {gate.name!r}",
                remedy=f"Give it the op {op!r}, by which the quantizer judges.",
            )
        wanted[name] = gate.threshold
    return wanted


def judge(gates: Iterable[Mapping[str, Any]], figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Judge figures by gates.

    Returns:
        A row a gate, in the gates' order: `name`, `figure` (the number, its JSON-safe spelling, or
        None), `spread` ([low, high] or None), `op`, `threshold`, `promised_threshold`,
        `changed_threshold` (it is not the promised one), `required`, `verdict` and `note`. Where
        floats are gated and the model gives others too, a gate on those is added (AGREEMENT).

    Raises:
        ModelOpsError: a gate is malformed.
    """
    parsed = [Gate.parse(fields) for fields in gates]
    floats = [gate for gate in parsed if gate.name in FLOATS]
    if floats and figures.get("discrete_rows") and not any(g.name in DISCRETE for g in parsed):
        required = any(gate.required for gate in floats)
        parsed.append(Gate.parse({**AGREEMENT, "required": required}))
    return [_judge_one(gate, figures) for gate in parsed]


def without_reference(gates: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return gates for a measurement that did not run the reference.

    What compares with it cannot be judged and is left out; the promises on the candidate itself
    are required in its place.
    """
    return [
        {**gate, "required": True}
        for gate in gates
        if gate["name"] not in COMPARING and not str(gate["name"]).startswith("reference_")
    ]


def _judge_one(gate: Gate, figures: Mapping[str, Any]) -> dict[str, Any]:
    given = figures.get(gate.name)
    spread = None
    if isinstance(given, Mapping):
        low, high = _number(given.get("low")), _number(given.get("high"))
        given = given.get("value")
        if low is not None and high is not None and not math.isnan(low + high):
            spread = (low, high)
    value = _number(given)
    verdict, note = _verdict(gate, value, spread)
    kind = {**dict.fromkeys(FLOATS, "float"), **dict.fromkeys(DISCRETE, "discrete")}.get(gate.name)
    if kind and figures.get(f"{kind}_rows") == 0:
        verdict, note = NOT_APPLICABLE, f"the model has no {kind} outputs"
    promised = gate.promised_threshold
    return {
        "name": gate.name,
        "figure": json_safe(value),
        "spread": json_safe(list(spread)) if spread else None,
        "op": gate.op,
        "threshold": gate.threshold,
        "promised_threshold": promised,
        "changed_threshold": promised is not None and promised != gate.threshold,
        "required": gate.required,
        "verdict": verdict,
        "note": note,
    }


def _verdict(
    gate: Gate, value: float | None, spread: tuple[float, float] | None
) -> tuple[str, str]:
    holds = OPERATORS[gate.op]
    if value is None:
        return INCONCLUSIVE, "not measured"
    if math.isnan(value):
        if gate.name in FLOATS:
            return FAIL, "a model gave values that are not finite"
        return INCONCLUSIVE, "not a number"
    if spread is not None:
        ends = {holds(end, gate.threshold) for end in (*spread, value)}
        if len(ends) > 1:
            return INCONCLUSIVE, f"too noisy: between {spread[0]:.4g} and {spread[1]:.4g}"
    return (PASS, "") if holds(value, gate.threshold) else (FAIL, "")


def overall(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the verdict of required gates: the worst of fail, inconclusive, pass.

    Promised gates never decide, nor those on outputs that the model does not have; without a
    required gate nothing speaks against a pass.
    """
    verdicts = {row["verdict"] for row in rows if row["required"]}
    return next((worst for worst in (FAIL, INCONCLUSIVE) if worst in verdicts), PASS)


def failed(judged: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say each required gate that did not pass in a line."""
    return [
        f"{row['name']} {row['figure']} is not {row['op']} {row['threshold']}"
        f" ({row['verdict']}{': ' + row['note'] if row['note'] else ''})"
        for row in judged
        if row["required"] and row["verdict"] not in ("pass", "not_applicable")
    ]


def too_noisy(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether a gate, required or promised, is inconclusive only because of its spread."""
    return any(row["verdict"] == INCONCLUSIVE and row["spread"] is not None for row in rows)


def _number(value: Any) -> float | None:
    """Return a figure or threshold as a float; true and false are 1 and 0; None if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


class Record:
    """verdict.json: measured values, each under the key of everything that shaped them.

    The layout is deterministic: equal entries give equal bytes. A file that is broken or of
    another schema is ignored and replaced by the next `put`; `notes` then says so.
    """

    def __init__(self, path: Path, mode: int = 0o644) -> None:
        """Read the file, if there is one.

        Args:
            mode: that of the file that `put` writes.

        Raises:
            OSError: it cannot be read.
        """
        self.notes: list[str] = []
        self._path, self._mode = path, mode
        self._entries: dict[str, Any] = {}
        try:
            document = opener.read_json(path)
            usable = document["schema"] == RECORD_SCHEMA and isinstance(document["entries"], dict)
        except FileNotFoundError:
            return
        except (ModelOpsError, TypeError, KeyError):
            usable = False
        if usable:
            self._entries = document["entries"]
        else:
            self.notes.append(f"{path} was not a usable record of verdicts and is replaced.")

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is recorded."""
        return not self._entries

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what is recorded for exactly this key, if anything."""
        entry = self._entries.get(_digest(key))
        if not isinstance(entry, dict) or entry.get("key") != json.loads(_canonical(key)):
            return None
        measured = entry.get("measured")
        if not isinstance(measured, dict) or entry.get("sha256") != _digest(measured):
            self.notes.append(f"The entry for this key in {self._path} was edited and is ignored.")
            return None
        return measured

    def put(self, key: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        """Record values and write the file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        safe = json_safe(measured)
        entry = {"key": json_safe(key), "measured": safe, "sha256": _digest(safe)}
        self._entries[_digest(key)] = entry
        document = {"schema": RECORD_SCHEMA, "entries": self._entries}
        text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        write_atomic(self._path, (text + "\n").encode(), self._mode)


def _canonical(value: Any) -> str:
    return json.dumps(json_safe(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()
