"""Ask a service a set of recordings, and keep what it understood. Standard library only."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import host_text, opener
from ..base.errors import ModelOpsError
from ..target import service_answer

RECORDING = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}\.wav")
MOST_RECORDINGS = 2000
LARGEST_RECORDING = 32 << 20  # bytes
LONGEST_TEXT = 2000  # characters
AUDIO = "{audio}"
NAME = "{file}"


def ask_all(folder: Path, question: Mapping[str, Any]) -> list[dict[str, str]]:
    """Ask about every recording of a folder, by its name, one after the other.

    Args:
        question: `url`; `body`, in which `{audio}` becomes the recording as base64 and `{file}` its
            name; `text` and `emotion`, the fields of the answer (see service_answer.at), empty for
            what it does not tell; `timeout_s`.

    Returns:
        `file`, `text`, `emotion` and `problem`, each; a field is empty where there is none.

    Raises:
        ModelOpsError: there are no recordings, too many, or one is no file.
        OSError: one may not be read.
    """
    files = sorted(path for path in folder.iterdir() if RECORDING.fullmatch(path.name))
    if not 0 < len(files) <= MOST_RECORDINGS:
        raise ModelOpsError(
            f"{len(files)} recordings",
            where=folder,
            remedy=f"Give 1 to {MOST_RECORDINGS} files NAME.wav, NAME of letters, digits, _ . -",
        )
    return [_ask(path, question) for path in files]


def _ask(path: Path, question: Mapping[str, Any]) -> dict[str, str]:
    audio = base64.b64encode(opener.read(path, LARGEST_RECORDING)).decode()
    body = filled(question.get("body") or {}, {AUDIO: audio, NAME: path.name})
    found = {"file": path.name, "text": "", "emotion": "", "problem": ""}
    try:
        limit_s = float(question.get("timeout_s", 60))
        answer = opener.parsed(service_answer.posted(str(question["url"]), body, limit_s))
        for field in ("text", "emotion"):
            if question.get(field):
                said = service_answer.at(answer, str(question[field]))
                found[field] = host_text.line(said)[:LONGEST_TEXT]
    except LookupError as error:
        found["problem"] = f"the answer has no field {host_text.line(error)}"
    except (OSError, ValueError) as error:
        found["problem"] = f"no usable answer: {host_text.line(error)[:200]}"
    return found


def filled(body: Any, values: Mapping[str, str]) -> Any:
    """Return a template in which each text that is a key of `values` is replaced."""
    if isinstance(body, Mapping):
        return {key: filled(item, values) for key, item in body.items()}
    if isinstance(body, list):
        return [filled(item, values) for item in body]
    return values.get(body, body) if isinstance(body, str) else body
