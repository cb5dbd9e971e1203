"""The values that a plan gives to keys of a configuration, whatever its format.

Runs on the controller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..base.errors import ModelOpsError

# A scalar, or `raw("token")` (put back verbatim), or ABSENT (the key's line is removed). They are
# plain JSON values, so that they travel through Ansible variables as they are.
Value = str | int | float | bool | Mapping[str, Any]
Found = dict[str, Any]  # {"value": str | int | float | bool | None, "raw": str, the token}
ABSENT: Mapping[str, Any] = {"absent": True}


def raw(text: str) -> dict[str, Any]:
    """Return the value that stands for a token exactly as written, such as `'a.onnx'`."""
    return {"raw": text}


def restoring(before: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Value]:
    """Return the values for a plan that bring back what `read` returned."""
    return {key: raw(found["raw"]) if found else ABSENT for key, found in before.items()}


def plain(values: Mapping[str, Value], where: object) -> dict[str, Any]:
    """Check the values and strip what is not JSON: Ansible hands out tagged `str` and `int`.

    Raises:
        ModelOpsError: a value is none that a plan takes.
    """
    try:
        text = json.dumps(dict(values), ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise ModelOpsError(
            f"not values that text can hold: {error}", where=where, remedy="Nothing was written."
        ) from None
    wanted: dict[str, Any] = json.loads(text)
    for key, value in wanted.items():
        is_raw = (
            isinstance(value, dict) and list(value) == ["raw"] and isinstance(value["raw"], str)
        )
        if not (isinstance(value, str | int | float) or is_raw or value == ABSENT):
            raise ModelOpsError(
                f"{value!r} is no value for {key}",
                where=where,
                remedy='Give text, a number, true or false, {"raw": "token"} or {"absent": true}.',
            )
    return wanted


def same(one: Any, other: Any) -> bool:
    """Tell whether two scalars are one value: 1, 1.0 and true are three, .nan is itself."""
    return type(one) is type(other) and repr(one) == repr(other)
