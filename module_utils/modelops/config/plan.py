"""Plan how the owner's configuration names FP32 and INT8, and say what stands in the way.

Runs on the controller. Nothing is written here: `byte_edits` applies the edits on the target to the
very bytes they were planned for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from ..base.errors import ModelOpsError, raise_all
from ..base.finding import Finding, finding
from . import byte_edits, env_edit
from .formats import Config, Owners, Yaml, read
from .values import Value, restoring, same
from .wanted import ENVIRONMENT, FP32, INT8, OTHER, UNKNOWN, Wanted


def findings(content: bytes | None, given: Mapping[str, Any]) -> list[Finding]:
    """Look whether the configuration can be made to name INT8, for preflight.

    Args:
        content: the file; None when there is none.
        given: what the inventory says, as for `Wanted.of`.

    Returns:
        A row for each problem, or one that says what the file names and a row for each advice.
    """
    try:
        wanted = Wanted.of(for_json(given))
        if content is None:
            keys = ", ".join(wanted.fp32)
            return [_advice(f"{wanted.file}: there is none", f"One with {keys} alone is made.")]
        config = read(content, wanted)
        problems = _problems(config, wanted)
        if not problems:
            config.plan(_forward(config, wanted))
    except ModelOpsError as error:
        problems = [error]
    if problems:
        return [
            finding("configuration", False, f"{p.where}: {p.what}", "it can be edited", p.remedy)
            for p in problems
        ]
    value, line = config.says(wanted.key) or ("no model", 0)
    names = f"{config.name} names {value}" + (f" (line {line})" if line else "")
    rows = [finding("configuration", True, names, "it can be edited", "")]
    if isinstance(config, Yaml) and len(config.path) > 1:
        rows.append(
            _advice(
                f"{config.name} is not at the top of {wanted.file}",
                f"A service that looks for {config.path[-1]} at the top goes on with its built-in"
                " values: see that it reads this block.",
            )
        )
    if line and wanted.names(value) == OTHER:
        rows.append(
            _advice(names, f"It is not {wanted.fp32[wanted.key]}. The way back goes there.")
        )
    return rows


def _advice(what: str, remedy: str) -> Finding:
    return finding("configuration", False, what, "the service reads it", remedy, "advice")


def plan(
    content: bytes | None, given: Mapping[str, Any], previous: Owners, *, back: bool
) -> dict[str, Any]:
    """Plan the edits that name FP32 and INT8.

    Args:
        content: the file; None when there is none.
        given: what the inventory says, as for `Wanted.of`.
        previous: the owner's values from before INT8, as an earlier plan returned them.
        back: the plan is for a way back, which nothing may block: what forbids INT8 is no error,
            and a file that cannot be read is `unreadable`.

    Returns:
        `config`, the option of model_release, and `previous`, the owner's values to keep.

    Raises:
        ModelOpsError: the file cannot be edited, or may not be made to name INT8.
    """
    wanted, previous = Wanted.of(for_json(given)), for_json(previous)
    text = new_text(wanted, wanted.fp32) if content is None else None
    option: dict[str, Any] = {
        "path": wanted.file,
        "sha256": "" if content is None else hashlib.sha256(content).hexdigest(),
        "content": text,
    }
    base = content if content is not None else str(text).encode()
    try:
        config = read(base, wanted)
        if content is not None and not back:
            raise_all(_problems(config, wanted))
        owners = previous if content is None else _owners(config, wanted, previous)
        to_fp32 = config.plan(_backward(config, wanted, owners))
    except ModelOpsError as error:
        if not back:
            raise
        return {"previous": previous, "config": {**option, "unreadable": str(error)}}
    try:
        to_int8 = config.plan(_forward(config, wanted))
    except ModelOpsError:
        if not back:
            raise
        to_int8 = None
    option |= {"fp32": to_fp32, "int8": to_int8, "names": _named(base, wanted, to_fp32, to_int8)}
    return {"previous": owners, "config": option}


def new_text(wanted: Wanted, values: Mapping[str, Any]) -> str:
    """Return the text of our keys alone, where there is no configuration yet."""
    if wanted.manager == ENVIRONMENT:
        edits = env_edit.plan(b"", values, wanted.file)
        return byte_edits.apply(b"", edits).decode()
    nested: dict[str, Any] = dict(values)
    for part in reversed(wanted.block or (wanted.name,)):
        nested = {part: nested}
    return yaml.safe_dump(nested, sort_keys=False, allow_unicode=True, width=1 << 30)


def _problems(config: Config, wanted: Wanted) -> list[ModelOpsError]:
    """Return every reason not to let a configuration name INT8."""

    def problem(what: str, remedy: str) -> ModelOpsError:
        return ModelOpsError(what, where=wanted.file, remedy=remedy)

    found = []
    says = config.says(wanted.key)
    if says is None and wanted.key not in wanted.add:
        return [config.missing([wanted.key])]
    if says and wanted.names(says[0]) == UNKNOWN:
        found.append(
            problem(
                f"{wanted.key} in {config.name} is {says[0]!r} (line {says[1]}): nobody here knows"
                " what the variable in it stands for, so it may be the release's model already",
                "Write the path without a variable.",
            )
        )
    lacking = [key for key in wanted.int8 if not config.says(key) and key not in wanted.add]
    if lacking := [key for key in lacking if key != wanted.key]:
        names = ", ".join(lacking)
        found.append(
            problem(
                f"{config.name} has no {names}",
                f"Write it there, or take it out of sarai_config_int8, or let the run add it:"
                f" sarai_config_add: [{names}]",
            )
        )
    for key, value in wanted.requires.items():
        there = config.says(key)
        if there and not same(there[0], value) and str(there[0]) != str(value):
            found.append(
                problem(
                    f"{key} in {config.name} is {there[0]!r} (line {there[1]}), so the service does"
                    f" not read {wanted.key}",
                    f"Set it to {value!r}, or correct sarai_config_requires.",
                )
            )
    return found


def _owners(config: Config, wanted: Wanted, previous: Owners) -> Owners:
    """Return the owner's values from before INT8.

    What the file says before it names INT8 is the owner's. What it says under INT8 is ours where
    we wrote it, and else the owner's too: he may have named INT8 by hand, and a key may be new in
    the inventory.
    """
    current = config.read(wanted.int8)
    says = config.says(wanted.key)
    named = wanted.names(says[0] if says else None)
    if named in (FP32, OTHER):
        return current
    kept = dict(previous)
    if named == UNKNOWN:
        return kept
    for key, found in current.items():
        ours = found is not None and same(found["value"], wanted.int8[key])
        if key not in kept and key != wanted.key and not ours:
            kept[key] = found
    before = kept.get(wanted.key)
    if before and wanted.names(before["value"]) == INT8:
        del kept[wanted.key]  # it is no way back
    return kept


def _backward(config: Config, wanted: Wanted, owners: Owners) -> dict[str, Value]:
    """Return the values that name FP32: the owner's, and the promised ones where they are lost."""
    says = config.says(wanted.key)
    if not owners and wanted.names(says[0] if says else None) == UNKNOWN:
        return {}  # it was never ours
    back = restoring(owners)
    for key in wanted.int8:
        if key not in back and key in wanted.fp32 and config.says(key):
            back[key] = wanted.fp32[key]
    return back


def _forward(config: Config, wanted: Wanted) -> dict[str, Value]:
    """Return the values that name INT8; the owner's spelling of its path stays."""
    says = config.says(wanted.key)
    named = says is not None and wanted.names(says[0]) == INT8
    return {key: v for key, v in wanted.int8.items() if not (named and key == wanted.key)}


def _named(
    base: bytes,
    wanted: Wanted,
    to_fp32: list[byte_edits.Edit],
    to_int8: list[byte_edits.Edit] | None,
) -> dict[str, str]:
    """Read back which model each text names, and which one it is."""
    told = {}
    for kind, edits in ((FP32, to_fp32), (INT8, to_int8)):
        if edits is not None:
            says = read(byte_edits.apply(base, edits, wanted.file), wanted).says(wanted.key)
            told[kind] = str(says[0]) if says else "no model"
    return told


def for_json(value: Any) -> Any:
    """Return plain JSON values of what Ansible hands out, with its tags gone."""
    return json.loads(json.dumps(value))
