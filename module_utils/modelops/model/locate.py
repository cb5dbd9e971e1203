"""Where the bytes of a tensor lie, trusting nothing that the graph says about them."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import TensorProto

from ..base.errors import ModelOpsError
from .checks import stored_bytes
from .walk import element_count, is_external

FETCH_AGAIN = "Export or copy the model again, with its data file."


@dataclass(frozen=True)
class Extent:
    """Where the raw little-endian bytes of a tensor lie: a file, and a range in bytes."""

    path: Path
    offset: int
    length: int


def unreadable(path: Path, error: OSError) -> ModelOpsError:
    """Return what to say of a failing read: the system's own error does not name the file."""
    return ModelOpsError(
        f"the file cannot be read ({error.strerror})",
        where=path,
        remedy="Check its permissions, that no other program keeps it open for itself, and the disk"
        " (dmesg, smartctl), and copy it again.",
    )


def is_in_graph(tensor: TensorProto, model: Path) -> bool:
    """Tell whether the values of a tensor lie in the graph file itself (see protobuf)."""
    named = (entry.value for entry in tensor.external_data if entry.key == "location")
    return not is_external(tensor) or next(named, "") == model.name


def locate(tensor: TensorProto, model: Path) -> Extent:
    """Find the bytes of an external tensor, trusting nothing that the graph says about them.

    Args:
        model: the graph file; a tensor may lie in it (see protobuf) or in a file of its folder.

    Raises:
        ModelOpsError: the location leaves the model's folder, is a link, is missing or too short,
            or offset and length contradict the tensor's shape.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    path = model.parent / location
    where = f"tensor {tensor.name!r} in {path}"
    _require_inside(location, tensor.name)
    if location != model.name:
        _require_plain_file(model.parent, PurePosixPath(location))
    needed = stored_bytes(tensor.data_type, element_count(tensor))
    if needed is None:
        raise ModelOpsError(
            f"external data of type {tensor.data_type} is not supported",
            where=where,
            remedy=FETCH_AGAIN,
        )
    offset = _number(entries.get("offset", "0"))
    length = _number(entries.get("length", str(needed)))
    if offset is None or length is None:
        raise ModelOpsError(
            f"offset {entries.get('offset')!r} or length {entries.get('length')!r} is no number",
            where=where,
            remedy=FETCH_AGAIN,
        )
    size = path.stat().st_size
    if min(offset, needed) < 0 or length != needed:
        raise ModelOpsError(
            f"its shape {list(tensor.dims)} needs {needed:,} bytes, but the graph says offset"
            f" {offset:,} and length {length:,}",
            where=where,
            remedy=FETCH_AGAIN,
        )
    if offset + length > size:
        raise ModelOpsError(
            f"the data file is truncated: bytes {offset:,} to {offset + length:,} are needed, it"
            f" has {size:,}",
            where=where,
            remedy=FETCH_AGAIN,
        )
    return Extent(path, offset, length)


def _number(text: str) -> int | None:
    """Read a number as the exporters write them; int() would take `1_0` and ` 8`."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else None


def _require_inside(location: str, name: str) -> None:
    """Refuse a place outside of the model's folder, as any system would read it."""
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if (
        not location
        or posix.is_absolute()
        or windows.drive
        or windows.root
        or ".." in posix.parts
        or ".." in windows.parts
        or "\0" in location
    ):
        raise ModelOpsError(
            f"external data location {location!r} leads out of the model's folder",
            where=f"tensor {name!r}",
            remedy="Such a file can read any file of this host; get the model from its maker.",
        )


def _require_plain_file(folder: Path, location: PurePosixPath) -> None:
    """Refuse links: onnx refuses them too, and a link can point at any file of the host."""
    path = folder
    status = folder.stat()
    for part in location.parts:
        path = path / part
        try:
            status = path.lstat()
        except FileNotFoundError:
            raise ModelOpsError(
                "the model's data file is missing", where=path, remedy=FETCH_AGAIN
            ) from None
        except (NotADirectoryError, OSError) as error:
            raise ModelOpsError(
                f"the model's data file cannot be reached ({error.strerror})",
                where=path,
                remedy=FETCH_AGAIN,
            ) from None
        if stat.S_ISLNK(status.st_mode):
            raise ModelOpsError(
                "the model's data is reached through a symbolic link",
                where=path,
                remedy="Put the file itself there; a link could name any file of this host.",
            )
    if not stat.S_ISREG(status.st_mode):
        raise ModelOpsError(
            "the model's data is not a regular file", where=path, remedy=FETCH_AGAIN
        )
    if status.st_nlink > 1:
        raise ModelOpsError(
            f"the model's data file has {status.st_nlink} hard links",
            where=path,
            remedy="Copy it (cp FILE NEW && mv NEW FILE): onnx refuses such files, and a change"
            " through the other name would go unseen.",
        )
