"""The lines of allowed_signers and revoked_keys: which keys may sign which model's releases.

Standard library only. A line of ours has the namespace as its principal, so that the keys of one
model never sign another's:

    modelops-release@NAME namespaces="modelops-release@NAME",valid-before="20271231Z" TYPE KEY
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ..base import opener
from ..base.errors import ModelOpsError
from ..pair import names

_WORD = r'(?:[^\s"#]|"[^"\n]*")+'
_KEY_TYPE = r"(?:sk-)?(?:ssh|ecdsa)-[A-Za-z0-9@.-]+"
_LINE = re.compile(
    rf"(?P<who>{_WORD})[ \t]+(?:(?P<options>{_WORD})[ \t]+)??(?P<kind>{_KEY_TYPE})[ \t]+"
    r"(?P<key>[A-Za-z0-9+/]+=*)(?:[ \t].*)?"
)
_REVOKED = re.compile(rf"(?:{_KEY_TYPE})[ \t]+([A-Za-z0-9+/]+=*)(?:[ \t].*)?")
_OPTION = re.compile(r'([a-z-]+)="([^"]*)"')
_KINDS = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com")
LARGEST = 1 << 20  # bytes of either file


class Signer(NamedTuple):
    """A key that may sign: whose (the principals), for which uses, and until when."""

    who: str
    kind: str
    key: str
    namespaces: str = ""
    valid_before: str = ""

    @property
    def line(self) -> str:
        """The line of allowed_signers."""
        options = [f'namespaces="{self.namespaces}"'] if self.namespaces else []
        options += [f'valid-before="{self.valid_before}"'] if self.valid_before else []
        return " ".join(part for part in (self.who, ",".join(options), self.kind, self.key) if part)


def namespace(model: str) -> str:
    """Return what a model's releases are signed for; also whose line its keys have."""
    return f"modelops-release@{model}"


def text_of(path: Path) -> str:
    """Return the text of one of the two files; empty where there is none.

    Raises:
        ModelOpsError: it is no regular file, or larger than it may be.
    """
    try:
        return opener.read(path, LARGEST).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def own(model: str, kind: str, key: str, valid_before: str = "") -> Signer:
    """Return a key that may sign a model's releases.

    Raises:
        ModelOpsError: it is no ed25519 key.
    """
    if kind not in _KINDS or not re.fullmatch(r"[A-Za-z0-9+/]{60,400}=*", key):
        raise ModelOpsError(
            f"{kind[:60]!r} is no key that signs releases",
            where=namespace(model),
            remedy=f"Take one of {' or '.join(_KINDS)}: ssh-keygen -t ed25519, or ed25519-sk.",
        )
    name = namespace(model)
    return Signer(name, kind, key, name, valid_before)


def read(text: str) -> list[Signer]:
    """Return the signers that a file's text names; other lines are not ours to read."""
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    rows = []
    for row in filter(None, found):
        options = dict(_OPTION.findall(row["options"] or ""))
        limits = options.get("namespaces", ""), options.get("valid-before", "")
        rows.append(Signer(row["who"], row["kind"], row["key"], *limits))
    return rows


def replaced(text: str, model: str, signers: Iterable[Signer]) -> str:
    """Return a file's text with these signers of a model in place of those before.

    The lines of other models, and those that somebody else wrote, stay as they are.
    """
    name = namespace(model)
    kept = [line for line in text.splitlines() if line.split(" ", 1)[0] != name]
    return "".join(f"{line}\n" for line in [*kept, *(signer.line for signer in signers)])


def by_model(text: str) -> dict[str, list[Signer]]:
    """Return the signers of each model that a controller's file names, made anew line by line.

    Raises:
        ModelOpsError: a line is none of ours.
    """
    found: dict[str, list[Signer]] = {}
    for line in filter(str.strip, text.splitlines()):
        rows = read(line)
        model = rows[0].who.removeprefix(namespace("")) if rows else ""
        row = (
            own(names.check(model), rows[0].kind, rows[0].key, rows[0].valid_before)
            if rows
            else None
        )
        if row is None or row.line != line:
            raise _no_line(line)
        found.setdefault(model, []).append(row)
    return found


def checked_revoked(text: str) -> list[str]:
    """Return the lines of a controller's revoked_keys.

    Raises:
        ModelOpsError: a line is no public key.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if not revoked(line):
            raise _no_line(line)
    return lines


def _no_line(line: str) -> ModelOpsError:
    return ModelOpsError(
        f"{line[:80]!r} is no line that playbooks/keys.yml makes",
        where="allowed_signers or revoked_keys of the controller",
        remedy="Take it out there; what a target alone should trust, its root writes.",
    )


def of(text: str, model: str) -> list[Signer]:
    """Return the keys of a model in lines of ours."""
    return [signer for signer in read(text) if signer.who == namespace(model)]


def revoked(text: str) -> list[str]:
    """Return the keys, in base64, that a file's text takes back."""
    found = (_REVOKED.fullmatch(line.strip()) for line in text.splitlines())
    return [row[1] for row in filter(None, found)]


def with_revoked(text: str, more: Iterable[str]) -> str:
    """Return a file's text with further lines; nothing that was taken back comes back by this."""
    there = set(revoked(text))
    new = [line for line in more if there.isdisjoint(revoked(line))]
    return "".join(f"{line}\n" for line in [*text.splitlines(), *dict.fromkeys(new)])


def day(moment: datetime) -> str:
    """Return a time as valid-before has it, in UTC."""
    return f"{moment.astimezone(UTC):%Y%m%d%H%M%SZ}"


def is_past(valid_before: str, moment: datetime) -> bool:
    """Tell whether a key's time is over; one without a limit never is."""
    digits = valid_before.removesuffix("Z")
    if len(digits) not in (8, 12, 14) or not digits.isdecimal():
        return False
    limit = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
    # Without Z it is the local time of the host, as ssh-keygen reads it.
    limit = limit.replace(tzinfo=UTC) if valid_before.endswith("Z") else limit.astimezone()
    return limit <= moment
