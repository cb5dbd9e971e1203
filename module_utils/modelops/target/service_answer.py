"""What a service answers to a question over HTTP, on FP32 and on INT8. Standard library only."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..base.errors import ModelOpsError
from ..base.opener import parsed

LONGEST = 16 << 20  # bytes of an answer


def ask(url: str, body: Any, field: str, timeout_s: float) -> list[float]:
    """Post a question as JSON and return the numbers of the answer.

    Args:
        field: where the answer holds them: keys and indices joined by dots; empty is the answer.

    Raises:
        ModelOpsError: no answer, another one than 200, no numbers there, or some are not finite.
    """
    try:
        found = parsed(posted(url, body, timeout_s))
    except (OSError, ValueError) as error:
        raise ModelOpsError(
            f"no usable answer ({error})",
            where=url,
            remedy="Look at the service's journal, and whether sarai_service_question fits it.",
        ) from None
    try:
        found = at(found, field)
    except LookupError:
        raise _no_numbers(url, f"it has no {field!r}") from None
    if not isinstance(found, list) or not found:
        raise _no_numbers(url, f"{field!r} is no list with something in it")
    if not all(isinstance(value, int | float) for value in found):
        raise _no_numbers(url, f"{field!r} holds something else than numbers")
    if not all(math.isfinite(value) for value in found):
        raise _no_numbers(url, f"{field!r} holds values that are not finite")
    return [float(value) for value in found]


def wake(url: str, body: Any, timeout_s: float) -> None:
    """Post a question, so that the service loads what it needs; the answer is no matter."""
    with suppress(OSError, ValueError):
        posted(url, body, timeout_s)


def posted(url: str, body: Any, timeout_s: float) -> bytes:
    """Post a document as JSON and return the bytes of the answer.

    Raises:
        OSError: no answer, another one than 2xx, or it did not end in time.
        ValueError: the address is none, the body is no JSON, or the answer is too long.
    """
    request = urllib.request.Request(  # noqa: S310 - the address is the operator's own
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    # No proxy: the address is this very host's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout_s) as answer:
        return whole(answer, timeout_s)


def whole(answer: http.client.HTTPResponse, limit_s: float) -> bytes:
    """Return all bytes of an answer, which may be no longer and take no longer than it should.

    Raises:
        ValueError: it has more than LONGEST bytes.
        TimeoutError: it did not end in time: a service may say a byte a second for ever.
    """
    deadline, parts, count = time.monotonic() + limit_s, [], 0
    while part := answer.read1(1 << 16):
        parts.append(part)
        count += len(part)
        if count > LONGEST:
            raise ValueError(f"the answer has more than {LONGEST:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the answer did not end within {limit_s:g} s")
    return b"".join(parts)


def at(document: Any, field: str) -> Any:
    """Return what a JSON document holds at a field: keys and indices joined by dots.

    Raises:
        LookupError: there is no such field.
    """
    for part in filter(None, field.split(".")):
        try:
            document = document[int(part)] if isinstance(document, list) else document[part]
        except (LookupError, ValueError, TypeError):
            raise LookupError(field) from None
    return document


def cosine(reference: Sequence[float], candidate: Sequence[float]) -> float:
    """Return r.c / (|r| |c|); 1 when they are equal, 0 when one is all zeros.

    Raises:
        ModelOpsError: they differ in length.
    """
    if len(reference) != len(candidate):
        raise ModelOpsError(
            f"the answer has {len(candidate)} numbers where FP32's has {len(reference)}",
            remedy="The question must have an answer of a fixed length.",
        )
    if list(reference) == list(candidate):
        return 1.0
    norms = math.hypot(*reference) * math.hypot(*candidate)
    dot = math.fsum(r * c for r, c in zip(reference, candidate, strict=True))
    return dot / norms if norms else 0.0


def _no_numbers(url: str, why: str) -> ModelOpsError:
    return ModelOpsError(
        f"the answer is not usable: {why}",
        where=url,
        remedy="Set sarai_service_question to one whose answer holds a list of numbers.",
    )
