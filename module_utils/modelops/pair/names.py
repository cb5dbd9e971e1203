"""How the files of a model are called, on the builder and on targets. Standard library only.

Several models share a folder, so every file that belongs to one begins with its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..base.errors import ModelOpsError

GRAPH = ".onnx"
INT8 = "_int8"
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
# Endings that the files of a model have: x_int8 would have the INT8 file of x as its FP32 file.
_TAKEN_ENDS = ("_int8", ".onnx", ".data", ".json", ".npz", ".sha256sums", ".part", ".lock")
# What lay directly in the folder .releases while that was the folder of a single model.
_TAKEN = re.compile(r"config|reserve|revert\.pyz|[0-9a-f]{16}|(damaged|unmanaged)-.*")


class Names(NamedTuple):
    """The names of a model's files.

    Attributes:
        fp32: the FP32 graph; its data files are called as the graph says.
        int8: the INT8 graph.
        int8_data: its data file, where there is one.
    """

    model: str
    fp32: str
    int8: str
    int8_data: str
    manifest: str
    sums: str
    golden: str
    inputs: str
    verdict: str


def of(model: str) -> Names:
    """Return the names of a model's files; see `check` for names that come from people."""
    return Names(
        model,
        fp32=f"{model}{GRAPH}",
        int8=f"{model}{INT8}{GRAPH}",
        int8_data=f"{model}{INT8}{GRAPH}.data",
        manifest=f"{model}.manifest.json",
        sums=f"{model}.SHA256SUMS",
        golden=f"{model}.golden.npz",
        inputs=f"{model}.inputs.npz",
        verdict=f"{model}.verdict.json",
    )


def check(model: str) -> str:
    """Return a model's name when paths and units can be made of it.

    Raises:
        ModelOpsError: it could leave its folder, or be taken for a file or folder of another model.
    """
    why = ""
    if not _MODEL.fullmatch(model) or ".." in model:
        why = (
            "it has 1 to 100 letters, digits, dots, hyphens and underscores, does not begin with a"
            " dot or a hyphen, and has no two dots in a row"
        )
    elif end := next((end for end in _TAKEN_ENDS if model.lower().endswith(end)), ""):
        why = f"{end} is how files of a model end, so it would meet those of another one"
    elif _TAKEN.fullmatch(model):
        why = "the folder .releases has that name for something else"
    if why:
        raise ModelOpsError(
            f"{model!r} cannot be the name of a model: {why}",
            where="sarai_model_name",
            remedy=f"Name it without {GRAPH} and {INT8}, for instance agi_audio_core.",
        )
    return model


def model_of(artifacts: Iterable[Mapping[str, Any]]) -> str:
    """Return the model that artifacts belong to, by the name of their graph; empty without one."""
    graphs = [str(a["name"]) for a in artifacts if str(a["name"]).endswith(GRAPH)]
    return graphs[0].removesuffix(GRAPH).removesuffix(INT8) if len(graphs) == 1 else ""
