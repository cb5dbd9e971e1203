"""The controller's keys: make one, rotate it, take one back. Standard library only.

Beside the key lie `allowed_signers`, which keys may sign which model's releases until when, and
`revoked_keys`. playbooks/keys.yml brings both to the targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ..base.errors import ModelOpsError
from ..base.files import remove, rename_durable, write_atomic
from . import signers, ssh_keygen, sshsig, trust
from .signers import Signer

BARE = (
    "The new key is not protected. ssh-keygen -p -f {key} gives it a passphrase. Then ssh-add {key}"
    " lets the agent of your session sign."
)


@dataclass(frozen=True)
class Keys:
    """The keys of a controller.

    Args:
        model: the model whose releases the key signs; it may sign those of others, too.
        key: the private key. Its public key, allowed_signers and revoked_keys stand beside it.
    """

    model: str
    key: Path

    def present(self, check_mode: bool) -> dict[str, Any]:
        """Make the key where there is none, and let it sign this model's releases."""
        made = not self._public.exists()
        if made and self.key.exists():
            ssh_keygen.public_key(self.key)  # says what is missing
        if made and not check_mode:
            self.key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            ssh_keygen.make_key(self.key, signers.namespace(self.model))
        if made and check_mode:
            return self._told(self._read(trust.SIGNERS), made=True, changed=True)
        before = self._read(trust.SIGNERS)
        ours = signers.of(before, self.model)
        current = signers.own(self.model, *ssh_keygen.public_key(self.key))
        self._require_not_revoked(current)
        if all(signer.key != current.key for signer in ours):
            ours.append(current)
        return self._kept(signers.replaced(before, self.model, ours), made, check_mode)

    def rotated(self, overlap_days: float, check_mode: bool) -> dict[str, Any]:
        """Make a new key; the one before is good for some days more."""
        until = signers.day(datetime.now(UTC) + timedelta(days=overlap_days))
        return self._changed(until, check_mode)

    def revoked(self, which: str, check_mode: bool) -> dict[str, Any]:
        """Take a key back; where it is the current one, make a new one.

        Args:
            which: its fingerprint, SHA256:...; empty for the current one.

        Raises:
            ModelOpsError: no such key ever signed here.
        """
        current = ssh_keygen.public_key(self.key)
        text, gone = self._read(trust.SIGNERS), self._read(trust.REVOKED)
        known = {sshsig.fingerprint(s.key): (s.kind, s.key) for s in signers.read(text)}
        known |= {sshsig.fingerprint(key): ("ssh-ed25519", key) for key in signers.revoked(gone)}
        known[sshsig.fingerprint(current[1])] = current
        if which and which not in known:
            raise ModelOpsError(
                f"no key with the fingerprint {which!r} signs here",
                where=self.key.with_name(trust.SIGNERS),
                remedy=f"Name one of: {', '.join(sorted(known))}.",
            )
        kind, key = known[which] if which else current
        wanted = signers.with_revoked(gone, [f"{kind} {key}"])
        # First it is taken back: whatever fails later, this stands.
        taken = self._write(trust.REVOKED, wanted, check_mode)
        if key == current[1]:
            return {**self._changed("", check_mode, wanted), "changed": True}
        kept = [line for line in text.splitlines() if all(s.key != key for s in signers.read(line))]
        result = self._kept("".join(f"{line}\n" for line in kept), False, check_mode, wanted)
        return {**result, "changed": result["changed"] or taken}

    def _changed(self, until: str, check_mode: bool, revoked: str | None = None) -> dict[str, Any]:
        """Make a new key in place of the current one.

        Args:
            until: until when the one before may sign; empty lets it sign no more.
        """
        before = self._read(trust.SIGNERS)
        old = signers.own(self.model, *ssh_keygen.public_key(self.key))
        if check_mode:
            return self._told(before, made=True, changed=True, revoked=revoked)
        new = self.key.with_name(f".{self.key.name}.new")
        new_public = new.with_name(f"{new.name}.pub")
        for path in (new, new_public):
            remove(path)
        ssh_keygen.make_key(new, signers.namespace(self.model))
        kind, key = ssh_keygen.public_key(new)
        text = before
        for model in self._models(before, old.key):
            ours = _limited(signers.of(text, model), old.key, until)
            text = signers.replaced(text, model, [*ours, signers.own(model, kind, key)])
        self._write(trust.SIGNERS, text, check_mode)
        rename_durable(new, self.key)
        rename_durable(new_public, self._public)
        return self._told(text, made=True, changed=True, revoked=revoked)

    def _models(self, text: str, key: str) -> list[str]:
        """Return the models whose releases a key signs, this one among them."""
        start = signers.namespace("")
        found = [s.who for s in signers.read(text) if s.key == key and s.who.startswith(start)]
        return sorted({self.model, *(who.removeprefix(start) for who in found)})

    def _require_not_revoked(self, current: Signer) -> None:
        if current.key in signers.revoked(self._read(trust.REVOKED)):
            raise ModelOpsError(
                f"the key {sshsig.fingerprint(current.key)} is revoked",
                where=self.key,
                remedy="playbooks/keys.yml --tags rotate makes a new one.",
            )

    def _kept(
        self, text: str, made: bool, check_mode: bool, revoked: str | None = None
    ) -> dict[str, Any]:
        changed = self._write(trust.SIGNERS, text, check_mode)
        return self._told(text, made=made, changed=changed or made, revoked=revoked)

    def _told(
        self, text: str, *, made: bool, changed: bool, revoked: str | None = None
    ) -> dict[str, Any]:
        there = self._public.exists()
        return {
            "changed": changed,
            "made": made,
            "signers": text,
            "revoked": self._read(trust.REVOKED) if revoked is None else revoked,
            "fingerprint": sshsig.fingerprint(ssh_keygen.public_key(self.key)[1]) if there else "",
            "notes": [BARE.format(key=self.key)] if made else [],
        }

    @property
    def _public(self) -> Path:
        return self.key.with_name(f"{self.key.name}.pub")

    def _read(self, name: str) -> str:
        return signers.text_of(self.key.with_name(name))

    def _write(self, name: str, text: str, check_mode: bool) -> bool:
        """Write one of the two files where it differs; tell whether it does."""
        if text == self._read(name):
            return False
        if not check_mode:
            write_atomic(self.key.with_name(name), text.encode())
        return True


def _limited(ours: Sequence[Signer], key: str, until: str) -> list[Signer]:
    """Return a model's signers with a limit on one key; without a limit it goes."""
    rows = []
    for signer in ours:
        if signer.key != key:
            rows.append(signer)
        elif until:
            sooner = min(filter(None, (signer.valid_before, until)))
            rows.append(signer._replace(valid_before=sooner))
    return rows
