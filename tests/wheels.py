"""Small wheels, for tests of environments."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path


def wheel(folder: Path, name: str, version: str, **files: str) -> str:
    """Make a wheel and return its pin."""
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}/__init__.py": f"version = {version!r}\n",
        **{f"{name}/{file}.py": text for file, text in files.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def digest(text: str) -> str:
        raw = hashlib.sha256(text.encode()).digest()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    record = "".join(f"{file},sha256={digest(t)},{len(t)}\n" for file, t in content.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (content | {f"{info}/RECORD": record + f"{info}/RECORD,,\n"}).items():
            archive.writestr(file, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
