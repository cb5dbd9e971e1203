"""What a virtual environment tells about itself. Runs there as a script, standard library only.

Standard output: `python` (its build), `prefix`, and `packages`, by name: the version, and whether
every file is as it was installed; null when nobody can tell, so that pip cannot mend it either.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import json
import os
import re
import sys


def look() -> dict[str, tuple[str, bool | None]]:
    """Return the packages."""
    packages: dict[str, tuple[str, bool | None]] = {}
    for found in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", found.name or "?").lower()
        # Without a name, or a second one of it, it is what pip, ended in its work, left behind.
        left = name == "?" or name in packages
        packages[name] = found.version, None if left else is_whole(found)
    return packages


def is_whole(package: importlib.metadata.Distribution) -> bool | None:
    """Tell whether every file is as the package's RECORD says; None when there is no RECORD."""
    # Not package.files: since Python 3.12 it leaves out what is missing.
    record = package.read_text("RECORD")
    if not record:
        return None
    site = str(package.locate_file(""))
    for name, known, _ in csv.reader(record.splitlines()):
        if not known:  # RECORD itself, and what Python compiled
            continue
        kind, _, value = known.partition("=")
        digest = hashlib.new(kind)
        try:
            with open(os.path.join(site, name), "rb", buffering=0) as content:
                while block := content.read(1 << 20):
                    digest.update(block)
        except OSError:
            return False
        if base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() != value:
            return False
    return True


if __name__ == "__main__":
    packages = look() if sys.prefix != sys.base_prefix else {}
    print(json.dumps({"python": sys.version, "prefix": sys.prefix, "packages": packages}))
