"""ssh-keygen, which makes keys and signatures and decides whether one is right.

Standard library only. On Linux and Windows 11 it is part of OpenSSH. Why it, and no
library: docs/adr/0001-ssh-keygen.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.programs import Answer, ask
from ..pair import signed

PROGRAM = "ssh-keygen"
LIMIT_S = 60  # of a question; a hardware key waits for a touch
LARGEST_KEY = 16 << 10  # bytes of a public key's file


def sign(content: bytes, key: Path, namespace: str) -> str:
    """Return the signature of some bytes.

    Args:
        key: the private key. Where an agent holds it, the agent signs; KEY.pub is enough then.

    Raises:
        ModelOpsError: there is no key, or it could not be used.
    """
    with tempfile.TemporaryDirectory(prefix="modelops-sign-") as folder:
        file = Path(folder, "manifest.json")
        file.write_bytes(content)
        answer = ask([PROGRAM, "-q", "-Y", "sign", "-f", key, "-n", namespace, file], LIMIT_S)
        made = file.with_name(f"{file.name}{signed.ENDING}")
        if answer.rc == 0 and made.is_file():
            return opener.read(made, signed.LONGEST).decode("ascii").replace("\r\n", "\n")
    raise ModelOpsError(
        f"it could not sign ({_said(answer)})",
        where=key,
        remedy="Look whether the key is there and yours alone (mode 0600). One with a passphrase"
        f" signs by the agent of your session: ssh-add {key}. playbooks/keys.yml makes a key.",
    )


def verify(
    content: bytes, signature: Path, namespace: str, signers: Path, revoked: Path | None
) -> Answer:
    """Ask whether a signature is right: exit code 0, and no other, says so.

    Args:
        signature: the file that holds it.
        signers: the file of the keys that may sign; its principals are namespaces, see `signers`.
        revoked: the file of the keys that may no more.
    """
    more = ["-r", revoked] if revoked else []
    return ask(
        [PROGRAM, "-Y", "verify", "-f", signers, "-I", namespace, "-n", namespace, "-s", signature,
         *more],
        LIMIT_S, content,
    )  # fmt: skip


def make_key(path: Path, comment: str) -> None:
    """Make a key pair, PATH and PATH.pub, without a passphrase.

    Raises:
        ModelOpsError: it could not be made.
    """
    answer = ask([PROGRAM, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], LIMIT_S)
    if answer.rc != 0:
        raise ModelOpsError(
            f"no key could be made ({_said(answer)})",
            where=path,
            remedy="Look whether OpenSSH is installed here and the folder may be written.",
        )


def public_key(key: Path) -> tuple[str, str]:
    """Return type and base64 of the public key beside a private one.

    Raises:
        ModelOpsError: there is none.
    """
    path = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    try:
        words = opener.read(path, LARGEST_KEY).decode("ascii").split()
    except (FileNotFoundError, UnicodeDecodeError):
        words = []
    if len(words) < 2:
        raise ModelOpsError(
            "there is no public key",
            where=path,
            remedy="playbooks/keys.yml makes a key pair. Of a private key alone: ssh-keygen -y.",
        )
    return words[0], words[1]


def _said(answer: Answer) -> str:
    return answer.text or f"exit code {answer.rc}"
