"""What a signature of ssh-keygen says of itself: which key made it, and for which use.

Standard library only. It tells why a signature is refused; whether it is right, ssh-keygen decides.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from ..pair import signed

_MAGIC = b"SSHSIG\0\0\0\1"  # OpenSSH's PROTOCOL.sshsig: the preamble and version 1


class Signature(NamedTuple):
    """Who signed, and for what.

    Attributes:
        key: the public key's bytes in base64, as the lines of key files have them.
        namespace: the use that the signature is for.
    """

    key: str
    namespace: str


def parsed(text: str) -> Signature:
    """Read a signature.

    Raises:
        ValueError: it is none.
    """
    if not text or not signed.is_signature(text):
        raise ValueError("not armored as a signature of ssh-keygen is")
    body = base64.b64decode("".join(text.splitlines()[1:-1]), validate=True)
    if not body.startswith(_MAGIC):
        raise ValueError("not the preamble of a signature")
    key, rest = _string(body[len(_MAGIC) :])
    namespace, _ = _string(rest)
    return Signature(base64.b64encode(key).decode(), namespace.decode("ascii"))


def fingerprint(key: str) -> str:
    """Return a key's fingerprint as ssh-keygen -l shows it.

    Args:
        key: its bytes in base64.
    """
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _string(data: bytes) -> tuple[bytes, bytes]:
    """Take a string off the front: its length in 4 bytes, then itself (RFC 4251, 5)."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length:
        raise ValueError("it ends within a text")
    return data[4 : 4 + length], data[4 + length :]
