"""What a virtual environment tells about itself. Runs there as a script, with parts of pip.

Standard input: `pins` (text of a requirements file) and `tools` (names that are never too much).
Standard output: `wanted` and `lines` (of the pins that are meant for this Python and system),
`broken` (missing, another version, or a file that is not as it was installed), `extra`, and
`unknown` (packages without the record of their files: pip can neither mend nor remove them).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import re
import sys
from typing import Any


def look(pins: str, tools: list[str]) -> dict[str, Any]:
    """Compare what is installed with what is pinned."""
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

    wanted: dict[str, str] = {}
    lines: dict[str, str] = {}
    for line in logical_lines(pins):
        try:
            pin = Requirement(line.partition(" --hash")[0])
        except InvalidRequirement as error:
            return {"refused": f"{line[:100]}: not a pin ({error})"}
        exact = re.fullmatch(r"==([^*]+)", str(pin.specifier))
        if exact is None or "--hash=sha256:" not in line:
            return {"refused": f"{line[:100]}: neither one version nor a SHA-256"}
        if pin.marker is None or pin.marker.evaluate():
            wanted[normal(pin.name)], lines[normal(pin.name)] = exact[1], line
    found = {normal(d.name): d for d in importlib.metadata.distributions() if d.name}
    return {
        "wanted": wanted,
        "lines": lines,
        "broken": sorted(
            name
            for name, version in wanted.items()
            if name not in found or found[name].version != version or not is_whole(found[name])
        ),
        "extra": {
            name: found[name].version for name in sorted(set(found) - set(wanted) - set(tools))
        },
        "unknown": sorted(name for name in found if not found[name].files),
    }


def logical_lines(text: str) -> list[str]:
    """Return the lines of a requirements file, continued ones joined, without comments."""
    joined = re.sub(r"\\\r?\n", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and line.strip()[0] != "#"]


def normal(name: str) -> str:
    """Return a package's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_whole(package: importlib.metadata.Distribution) -> bool:
    """Tell whether every file is as the package's RECORD says."""
    files = package.files
    if not files:
        return False
    for file in files:
        if file.hash is None:  # RECORD itself, and what Python compiled
            continue
        digest = hashlib.new(file.hash.mode)
        try:
            with open(file.locate(), "rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
        except OSError:
            return False
        if base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() != file.hash.value:
            return False
    return True


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(json.dumps(look(asked["pins"], asked["tools"])))
