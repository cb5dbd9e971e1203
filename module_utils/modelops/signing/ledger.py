"""The controller's ledger: what was signed, so that the same release is signed once.

Standard library only. A file for each model, the newest entry last. The newest alone is used again:
a release that comes back after another one gets a new serial, since targets refuse a lower one.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.file_lock import exclusive
from ..base.files import write_atomic
from ..pair import manifest as manifests
from ..pair import names, signed
from . import signers, ssh_keygen, sshsig, trust

SCHEMA = 1
KEPT = 200  # entries, so that the file stays small
PROBE = "modelops-check-mode"  # the namespace of what is signed only to try the key
_FIELDS = {"release_id", "digest", "key", "signed", "signature"}


@dataclass(frozen=True)
class Signing:
    """A key that signs a model's releases, and the ledger of them.

    Args:
        key: the private key, its public key and revoked_keys beside it.
        ledger: the folder of the ledgers.
    """

    model: str
    key: Path
    ledger: Path

    def sign(self, manifest: Mapping[str, Any], verdict: str, check_mode: bool) -> dict[str, Any]:
        """Sign a release, once.

        Args:
            verdict: what the builder's gate said; only what passed is signed.

        Returns:
            `manifest`, with its section `signed`: what the signature is of is its dump;
            `signature`, empty where check mode would make a new one; `serial`; `changed`.

        Raises:
            ModelOpsError: it is no release of this model that passed, or the key cannot sign.
        """
        names.check(self.model)
        manifests.check(manifest, "option manifest", self.model)
        if verdict != signed.PASSED:
            raise ModelOpsError(
                f"the verdict is {verdict or 'not known'}, and only what passed the builder's gate"
                " is signed",
                where=f"release {manifest['release_id']}",
                remedy="Let quantize.yml judge it, or python -m modelops compare; then sign it.",
            )
        signer = self._signer()
        plain = signed.without(manifest)
        if not check_mode:
            self.ledger.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self.ledger / f".{self.model}.lock"
        with nullcontext() if check_mode else exclusive(lock, "signing a release"):
            entries = self.entries()
            if entries and self._fits(entries[-1], plain, verdict, signer):
                return self._told(plain, entries[-1], changed=False)
            last = entries[-1]["signed"]["serial"] if entries else 0
            entry = self._signed(plain, verdict, signer, last, check_mode)
            if not check_mode:
                self._write([*entries, entry][-KEPT:])
            return self._told(plain, entry, changed=True)

    def ready(self) -> signers.Signer:
        """Return who signs here, when a release could be signed now.

        A key in hardware is not tried: it waits for a touch.

        Raises:
            ModelOpsError: there is no such key, it is revoked or cannot sign, or the ledger is
                not usable.
        """
        names.check(self.model)
        signer = self._signer()
        self.entries()
        if not signer.kind.startswith("sk-"):
            ssh_keygen.sign(b"ready\n", self.key, PROBE)
        return signer

    def entries(self) -> list[dict[str, Any]]:
        """Return what was signed, the newest last.

        Raises:
            ModelOpsError: the ledger is not usable.
        """
        try:
            found = opener.read_json(self._file)
        except FileNotFoundError:
            return []
        entries = found.get("entries") if isinstance(found, dict) else None
        if not isinstance(entries, list) or not all(map(_is_entry, entries)):
            raise ModelOpsError(
                "the ledger of what was signed is not usable",
                where=self._file,
                remedy="Bring it back from a backup, or remove it: the next serial is then the"
                " time, higher than all before unless the clock was wrong.",
            )
        return entries

    @property
    def _file(self) -> Path:
        return self.ledger / f"{self.model}.json"

    def _signer(self) -> signers.Signer:
        kind, key = ssh_keygen.public_key(self.key)
        signer = signers.own(self.model, kind, key)
        revoked = self.key.with_name(trust.REVOKED)
        if key in signers.revoked(signers.text_of(revoked)):
            raise ModelOpsError(
                f"the key {sshsig.fingerprint(key)} is revoked ({revoked})",
                where=self.key,
                remedy="playbooks/keys.yml --tags rotate makes a new one.",
            )
        return signer

    def _fits(
        self, entry: Mapping[str, Any], plain: Mapping[str, Any], verdict: str,
        signer: signers.Signer,
    ) -> bool:  # fmt: skip
        """Tell whether an entry is the signature of this very release, by this key, and right."""
        wanted = manifests.digest(plain), sshsig.fingerprint(signer.key), verdict, self.model
        said = entry["signed"]
        there = entry["digest"], entry["key"], said["verdict"], said["model"]
        return wanted == there and self._is_right(plain, entry, signer)

    def _signed(
        self, plain: Mapping[str, Any], verdict: str, signer: signers.Signer, last: int,
        check_mode: bool,
    ) -> dict[str, Any]:  # fmt: skip
        serial = max(last + 1, int(time.time()))
        at = datetime.now(UTC).isoformat(timespec="seconds")
        made = signed.stamped(plain, self.model, serial, at, verdict)
        entry = {
            "release_id": plain["release_id"],
            "digest": manifests.digest(plain),
            "key": sshsig.fingerprint(signer.key),
            signed.SECTION: made[signed.SECTION],
            "signature": "",
        }
        if check_mode:
            # Nothing that could be used is made before it is meant: only the key is tried.
            ssh_keygen.sign(b"check mode\n", self.key, PROBE)
            return entry
        name = signers.namespace(self.model)
        entry["signature"] = ssh_keygen.sign(manifests.dump(made), self.key, name)
        if not self._is_right(plain, entry, signer):
            raise ModelOpsError(
                "the signature that was made does not fit the public key beside it",
                where=self.key,
                remedy=f"Look whether {self.key.name} and its .pub are one pair: ssh-keygen -y -f"
                f" {self.key} shows the public key.",
            )
        return entry

    def _is_right(
        self, plain: Mapping[str, Any], entry: Mapping[str, Any], signer: signers.Signer
    ) -> bool:
        with tempfile.TemporaryDirectory(prefix="modelops-ledger-") as folder:
            file, kept = Path(folder, "signers"), Path(folder, "signature")
            file.write_text(f"{signer.line}\n", encoding="ascii")
            kept.write_text(entry["signature"], encoding="ascii")
            content = manifests.dump({**plain, signed.SECTION: entry[signed.SECTION]})
            answer = ssh_keygen.verify(content, kept, signer.who, file, None)
        return answer.rc == 0

    def _told(
        self, plain: Mapping[str, Any], entry: Mapping[str, Any], *, changed: bool
    ) -> dict[str, Any]:
        return {
            "changed": changed,
            "manifest": {**plain, signed.SECTION: entry[signed.SECTION]},
            "signature": entry["signature"],
            "serial": entry[signed.SECTION]["serial"],
        }

    def _write(self, entries: list[dict[str, Any]]) -> None:
        text = json.dumps({"schema": SCHEMA, "entries": entries}, indent=1, sort_keys=True)
        write_atomic(self._file, f"{text}\n".encode())


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == _FIELDS
        and bool(entry[signed.SECTION])
        and not signed.problem(entry)
        and all(isinstance(entry[name], str) for name in _FIELDS - {signed.SECTION})
        and signed.is_signature(entry["signature"])
    )
