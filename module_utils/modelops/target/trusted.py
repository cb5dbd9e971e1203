"""Whether a target lets a release in: by its signature, where the target asks for one.

Standard library only. FP32 needs none, so nothing here is asked on the way to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..pair import manifest, signed
from .store import FP32, Store


def proof(store: Store, release: str) -> Path:
    """Return the file that holds the signature of a release's manifest."""
    return store.folder(release) / f"{manifest.MANIFEST}{signed.ENDING}"


def has_proof(store: Store, release: str) -> bool:
    """Tell whether a release's signature is kept as the controller knows it, if it knows one."""
    if not store.is_known(release) or not store.signature:
        return True
    return opener.holds(proof(store, release), store.signature.encode())


def require(
    store: Store,
    release: str,
    listed: Mapping[str, Any] | None = None,
    *,
    fresh: bool = False,
    check_mode: bool = False,
) -> None:
    """Refuse a release that is not let in; see Trust.require.

    Args:
        listed: its manifest as the controller gave it, with `store.signature`; without it what is
            kept here is looked at.
        fresh: whether it comes into service now: no replay may.
        check_mode: where it signs nothing, what a real run would sign counts as signed.

    Raises:
        ModelOpsError: the release is unsigned, or its signature is not right here.
        OSError: its manifest or signature cannot be read.
    """
    if not store.trust.asks:
        return
    path = store.folder(release) / manifest.MANIFEST
    if listed is None:
        content, signature = opener.read(path, opener.LARGEST_JSON), signed.beside(path)
    elif check_mode and not store.signature and signed.serial(listed):
        return
    else:
        content, signature = manifest.dump(listed), store.signature
    store.trust.require(store.name, content, signature, path, fresh=fresh)


def problem(store: Store, release: str) -> str:
    """Say why a release is not let in; FP32 always is."""
    try:
        if release != FP32:
            require(store, release)
    except (ModelOpsError, OSError) as error:
        return str(error)
    return ""
