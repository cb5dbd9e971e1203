"""Whether a host's FP32 model is whole, and what its graph says. Standard library only."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.finding import Finding, finding
from ..measuring import inputs_file
from ..model import declared
from ..model.declared import Declared, Dim


def check_model(path: Path) -> Finding:
    """Check that an FP32 model is present and whole.

    Every tensor's bytes must be there, so far as this Python can tell: with onnx their shapes say
    how many there are. That they are the right ones is known later, from the manifest's hashes.
    """
    remedy = "Copy the FP32 model there again, all of its files."
    try:
        value = _whole(path)
    except ModelOpsError as error:
        why = str(error).removeprefix(f"{path}: ")
        return finding(f"FP32 model {path}", False, why, "present and whole", remedy)
    return finding(f"FP32 model {path}", True, value, "present and whole", remedy)


def _whole(path: Path) -> str:
    try:
        from ..model.reader import read_model, validate
    except ImportError:
        sizes = declared.check_files(path, declared.read(path))
    else:
        files = {path, *validate(read_model(path), path)}
        sizes = {file.name: file.stat().st_size for file in files}
    return ", ".join(f"{name} {sizes[name]:,} bytes" for name in sorted(sizes))


def check_outputs(model: Declared, expected: Mapping[str, Any]) -> list[Finding]:
    """Check that a graph declares the outputs that are expected: names, and numbers of dimensions.

    A dimension that the graph leaves open (a symbol, or nothing) may be any, and the row says so.

    Args:
        expected: the shape of each output, a list of numbers; others are not looked at.
    """
    return [_output(name, wanted, model.outputs) for name, wanted in expected.items()]


def _output(name: str, wanted: Any, outputs: Mapping[str, list[Dim] | None]) -> Finding:
    remedy = "Copy the right model there, or correct sarai_expected_outputs."
    row = functools.partial(finding, f"output {name}")
    if not isinstance(wanted, list) or not all(type(size) is int for size in wanted):
        return row(False, wanted, "a list of whole numbers", "Correct sarai_expected_outputs.")
    if name not in outputs:
        value = f"there is none; the graph has {', '.join(outputs)}"
        return row(False, value, wanted, remedy)
    shape = outputs[name]
    if shape is None:
        return row(True, "a shape that the graph leaves open", wanted, "")
    same = len(shape) == len(wanted) and all(
        a == b for a, b in zip(shape, wanted, strict=True) if isinstance(a, int)
    )
    open_ = any(not isinstance(dim, int) for dim in shape)
    value = f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
    return row(same, value + (", names may be any number" if open_ else ""), wanted, remedy)


def check_inputs(model: Declared, inputs: Mapping[str, Any]) -> list[Finding]:
    """Check that a file of real inputs fits a model.

    Args:
        inputs: `file`, and `samples` (see inputs_file.samples) or the `problem` with it.
    """
    if not inputs:
        return []
    wrong = [inputs["problem"]] if inputs["problem"] else []
    wrong += inputs_file.problems(inputs["samples"], model.inputs)
    count = len(inputs["samples"])
    value = "; ".join(wrong) or f"{count} samples"
    return [
        finding(
            f"inputs {inputs['file']}", not wrong, value, "they fit the model", inputs_file.REMEDY,
            name="inputs",
        )
    ]  # fmt: skip


def model_bytes(path: Path) -> int:
    """Return the size of a model's files in bytes; files that are missing count nothing."""
    files = (path, path.with_name(f"{path.name}.data"))
    return sum(file.stat().st_size for file in files if file.is_file())


def check_size(model: Path, wanted: int) -> list[Finding]:
    """Check the size of an FP32 model's data file, where it is there and its size is known."""
    data = model.with_name(f"{model.name}.data")
    if not wanted or not data.is_file():
        return []
    size = data.stat().st_size
    remedy = "Copy the FP32 files there again, or correct preflight_model_bytes."
    return [
        finding(f"size of {data}", size == wanted, f"{size:,} bytes", f"{wanted:,} bytes", remedy)
    ]
