"""One archive of what all hosts told, for whoever helps from afar. Runs on the controller."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from ..base.hidden import masked

# A name that a host sent becomes a path on whichever machine unpacks the archive.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OTHER = re.compile(r"[^A-Za-z0-9._-]|^[^A-Za-z0-9]")
MODE = 0o600  # secrets are hidden as well as can be told, which is not for everybody


def texts(hosts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return by host what host_diagnosis collected there, from the facts of all hosts."""
    told = ((host, host.get("__diagnose_host", {}).get("texts")) for host in hosts)
    return {str(host["inventory_hostname"]): dict(found) for host, found in told if found}


def write(dest: Path, texts: Mapping[str, Mapping[str, str]]) -> None:
    """Write a .tar.gz with a folder a host.

    Args:
        texts: by host, by the name of the file.

    Raises:
        ModelOpsError: a name is none of a plain file.
        OSError: the archive cannot be written.
    """
    folder = dest.name.partition(".")[0]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for host, files in sorted(texts.items()):
            for name, text in sorted(files.items()):
                if not _NAME.fullmatch(name):
                    raise ModelOpsError(
                        f"{name!r} cannot be a file of the archive",
                        where=host,
                        remedy="See who controls this host.",
                    )
                data = masked(text).encode("utf-8", "replace")
                entry = tarfile.TarInfo(f"{folder}/{_OTHER.sub('_', host)}/{name}")
                entry.size, entry.mode = len(data), MODE
                archive.addfile(entry, io.BytesIO(data))
    write_atomic(dest, gzip.compress(content.getvalue(), mtime=0), MODE)
