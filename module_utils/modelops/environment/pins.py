"""Pinned packages: what a requirements file says to one Python. Standard library only.

The Python that makes an environment need not have any package, so markers are read here.
"""

from __future__ import annotations

import ast
import operator
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..base.errors import ModelOpsError

_REMEDY = "Pin one version with its SHA-256 a line, as the files in requirements/ do."
_PIN = re.compile(
    r"(?P<name>[\w.-]+)(\[.*?\])?\s*==\s*(?P<version>[^\s;*]+)\s*(;\s*(?P<marker>.*?)\s*)?"
    r"(?P<hashes>(\s+--hash=sha256:[0-9a-f]{64})+)"
)
_VERSIONS = ("python_version", "python_full_version")
_OPERATORS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class Pin:
    """A package in one version, whose wheel has one of these SHA-256."""

    name: str
    version: str
    sha256: frozenset[str]

    @property
    def line(self) -> str:
        """Return it as a line of a requirements file."""
        hashes = "".join(f" --hash=sha256:{digest}" for digest in sorted(self.sha256))
        return f"{self.name}=={self.version}{hashes}"


def read_pins(text: str, environment: Mapping[str, str]) -> dict[str, Pin]:
    """Return the pins of a requirements file that are meant for an environment, by name.

    Args:
        text: lines `NAME==VERSION [; MARKER] --hash=sha256:...`, which may be continued.
        environment: what markers ask for, as `this_environment` returns it.

    Raises:
        ModelOpsError: a line is no such pin, or a package is pinned twice.
    """
    pins: dict[str, Pin] = {}
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _PIN.fullmatch(line.strip())
        if match is None:
            raise ModelOpsError(
                "neither one version nor a SHA-256",
                where=f"requirements: {line.strip()[:100]}",
                remedy=_REMEDY,
            )
        if match["marker"] and not holds(match["marker"], environment):
            continue
        pin = Pin(normal(match["name"]), match["version"],
                  frozenset(re.findall("sha256:([0-9a-f]{64})", match["hashes"])))  # fmt: skip
        if pins.setdefault(pin.name, pin) != pin:
            raise ModelOpsError("pinned twice", where=f"requirements: {pin.name}", remedy=_REMEDY)
    return pins


def normal(name: str) -> str:
    """Return a package's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def this_environment() -> dict[str, str]:
    """Return what markers may ask for, of the Python that runs this."""
    return {
        "os_name": os.name,
        "sys_platform": sys.platform,
        "platform_system": platform.system(),
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "implementation_name": sys.implementation.name,
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "python_full_version": platform.python_version(),
    }


def holds(marker: str, environment: Mapping[str, str]) -> bool:
    """Tell whether a marker (PEP 508) holds in an environment.

    Raises:
        ModelOpsError: it asks for what is not known here.
    """
    try:
        return bool(_value(ast.parse(marker, mode="eval").body, environment))
    except (SyntaxError, KeyError, IndexError) as error:
        raise ModelOpsError(
            f"this marker is not understood ({error!r})",
            where=f"requirements: {marker}",
            remedy="Let it ask for the system and the version of Python alone.",
        ) from None


def _value(node: ast.expr, environment: Mapping[str, str]) -> Any:
    """Evaluate a part of a marker, which is an expression of Python's too."""
    match node:
        case ast.BoolOp(op, values):
            return (all if isinstance(op, ast.And) else any)(_value(v, environment) for v in values)
        case ast.Compare(left, [how], [right]):
            pair = [_value(side, environment) for side in (left, right)]
            if any(isinstance(side, ast.Name) and side.id in _VERSIONS for side in (left, right)):
                pair = [_version(text) for text in pair]
            return _OPERATORS[type(how)](*pair)
        case ast.Name(name):
            return environment[name]
        case ast.Constant(str(text)):
            return text
    raise KeyError(ast.unparse(node))


def _version(text: str) -> list[int]:
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    while numbers and not numbers[-1]:
        numbers.pop()  # 3.12 is 3.12.0
    return numbers
