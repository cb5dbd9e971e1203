"""What a target accepts: releases whose signature its root-owned files let pass. For FP32 none.

Standard library only. `/etc/modelops/allowed_signers` says which keys may sign, `revoked_keys`
beside it which no more; `/var/lib/modelops/NAME.serial` holds the highest serial that was accepted.
Where there is no allowed_signers nothing is asked, unless the controller requires a signature.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..base import closed, opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from ..pair import manifest, signed
from . import signers, ssh_keygen, sshsig

FOLDER = Path("/etc/modelops")
SERIALS = Path("/var/lib/modelops")
SIGNERS, REVOKED = "allowed_signers", "revoked_keys"
_LONGEST_SERIAL = 32  # bytes of its file
_FP32 = "FP32 needs no signature: rollback.yml."
_AGAIN = "Run quantize.yml again, from a controller that has the key: it signs the release anew."
_ROTATE = "playbooks/keys.yml --tags rotate makes a new key."
_INSTALL = "Install OpenSSH's ssh-keygen on this host (Debian: openssh-client)."
_OTHERS = "others may let their own keys sign releases here"
_BY_HAND = "What a person brings, python -m modelops sign FOLDER signs on that controller."


class KeyProblem(NamedTuple):
    """Why a key may not sign: as code knows it, in words, and what to do."""

    reason: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Trust:
    """Which releases a target lets in.

    Args:
        folder: the folder of allowed_signers and revoked_keys.
        serials: the folder of the highest serials.
        required: whether an unsigned release is refused even where there is no allowed_signers.
        replay: the id of a release that may come although its serial is lower than one before.
    """

    folder: Path = FOLDER
    serials: Path = SERIALS
    required: bool = False
    replay: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Trust:
        """Return what a module's options say (execution.options.TRUST)."""
        folder, serials = Path(options["trust_dir"]), Path(options["serials_dir"])
        return cls(folder, serials, options["require_signature"], options["replay"])

    @property
    def knows(self) -> bool:
        """Whether root said here which keys may sign."""
        return _is_there(self.folder / SIGNERS)

    @property
    def asks(self) -> bool:
        """Whether a release needs a signature here."""
        return self.required or self.knows

    def require(
        self, model: str, content: bytes, signature: str, where: object, *, fresh: bool = False
    ) -> None:
        """Refuse a release that is not signed as it must be here.

        Args:
            content: the bytes of its manifest.
            signature: the text of its signature; empty without one.
            where: the manifest, for the error.
            fresh: whether it comes into service now, so that an older one is a replay; a way back
                goes to an older one on purpose.

        Raises:
            ModelOpsError: with what is wrong as the fact `reason`.
        """
        if not self.asks:
            return
        if not signature:
            raise _refused(
                "unsigned", "the release is not signed, and this target takes signed ones alone",
                where, f"{_AGAIN} {_BY_HAND}",
            )  # fmt: skip
        self._verify(model, content, signature, where)
        listed = manifest.check(opener.parsed(content), where)
        self._require_said(listed, model, where)
        if fresh:
            self.require_fresh(listed, model, where)

    def require_fresh(self, listed: Mapping[str, Any], model: str, where: object) -> None:
        """Refuse a release that is older than one that was accepted before.

        Raises:
            ModelOpsError: it is, and `replay` does not name it.
        """
        remembered, serial = self.serial(model), signed.serial(listed)
        release = listed["release_id"]
        if serial >= remembered or release == self.replay:
            return
        raise _refused(
            "replayed",
            f"the release has serial {serial}, and one with serial {remembered} was accepted before"
            f" ({self._serial_file(model)}): it is an old one that was brought again",
            where,
            f"If you want it back: rollback.yml -e rollback_to={release} where it is kept, or"
            f" quantize.yml -e activate_replay={release}.",
        )

    def serial(self, model: str) -> int:
        """Return the highest serial that was accepted; 0 before the first.

        Raises:
            ModelOpsError: its file is not usable.
        """
        path = self._serial_file(model)
        closed.require(path, "others may forget here which release is the newest")
        try:
            text = opener.read(path, _LONGEST_SERIAL).decode("ascii").strip()
        except FileNotFoundError:
            return 0
        except UnicodeDecodeError:
            text = ""
        if text.isdecimal() and signed.is_serial(int(text)):
            return int(text)
        raise ModelOpsError(
            "it does not hold the serial of a release",
            where=path,
            remedy="As root, look who wrote it and remove it: the next release is remembered anew.",
        )

    def learn(self, text: str, revoked: str, *, check_mode: bool = False) -> bool:
        """Write, as root, which keys may sign and which no more; tell whether that is news.

        Args:
            text: the lines of allowed_signers. Those of models that it does not name stay.
            revoked: the lines of revoked_keys. Those that are there stay.

        Raises:
            ModelOpsError: others may write there, or a line is none of a signer.
        """
        wanted = signers.text_of(self.folder / SIGNERS)
        for model, rows in signers.by_model(text).items():
            wanted = signers.replaced(wanted, model, rows)
        files = {
            REVOKED: signers.with_revoked(
                signers.text_of(self.folder / REVOKED), signers.checked_revoked(revoked)
            ),
            SIGNERS: wanted,
        }
        news = [
            name
            for name, content in files.items()
            if content != signers.text_of(self.folder / name)
        ]
        if not self.knows and SIGNERS not in news:
            news.append(SIGNERS)
        for name in news:
            closed.require(self.folder / name, _OTHERS)
            if not check_mode:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
                write_atomic(self.folder / name, files[name].encode())
        return bool(news)

    def known_serial(self, model: str) -> int | None:
        """Return what `serial` does, 0 where its file is not usable, None where nobody asks."""
        try:
            return self.serial(model) if self.asks else None
        except (ModelOpsError, OSError):
            return 0

    def remember(self, listed: Mapping[str, Any], model: str, *, check_mode: bool = False) -> bool:
        """Remember the serial of an accepted release, as root; tell whether that is news.

        Raises:
            ModelOpsError: as `serial`.
        """
        if signed.serial(listed) <= self.serial(model):
            return False
        if not check_mode:
            path = self._serial_file(model)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            write_atomic(path, f"{signed.serial(listed)}\n".encode())
        return True

    def _serial_file(self, model: str) -> Path:
        return self.serials / f"{model}.serial"

    def _verify(self, model: str, content: bytes, signature: str, where: object) -> None:
        try:
            found = sshsig.parsed(signature)
        except ValueError as error:
            raise _refused(
                "forged", f"what came as its signature is none of ssh-keygen's ({error})", where,
                f"{_AGAIN} {_BY_HAND}",
            ) from None  # fmt: skip
        file, revoked = self.folder / SIGNERS, self.folder / REVOKED
        if not self.knows:
            raise _refused(
                "untrusting", f"a signature is required, and there is no {file}: no key may"
                " sign releases here", where, "playbooks/keys.yml brings it to the targets.",
            )  # fmt: skip
        for path in (file, revoked):
            closed.require(path, _OTHERS)
        with tempfile.TemporaryDirectory(prefix="modelops-verify-") as folder:
            kept = Path(folder, "signature")
            kept.write_text(signature, encoding="ascii")
            name = signers.namespace(model)
            takes_back = revoked if _is_there(revoked) else None
            answer = ssh_keygen.verify(content, kept, name, file, takes_back)
        if answer.rc is None:
            what = f"the signature cannot be verified: {answer.text}"
            raise _refused("unverified", what, where, _INSTALL)
        if answer.rc != 0:
            raise self._why(model, found, where, answer.text)

    def key_problem(self, model: str, key: str) -> KeyProblem | None:
        """Say why a key may not sign a model's releases here; None when it may.

        Args:
            key: the public key, in base64.

        Raises:
            ModelOpsError: a file of root's is no regular one, or larger than it may be.
        """
        name, shown = signers.namespace(model), sshsig.fingerprint(key)
        file, revoked = self.folder / SIGNERS, self.folder / REVOKED
        listed = [s for s in signers.read(signers.text_of(file)) if s.key == key]
        ours = [s for s in listed if name in s.namespaces.split(",") or not s.namespaces]
        if key in signers.revoked(signers.text_of(revoked)):
            return KeyProblem("revoked", f"the key {shown}, which {revoked} takes back", _ROTATE)
        if not ours:
            return KeyProblem(
                "unknown", f"the key {shown}, which may not sign for {name} ({file})",
                "If the key is yours, playbooks/keys.yml lets it in.",
            )  # fmt: skip
        if all(signers.is_past(signer.valid_before, datetime.now(UTC)) for signer in ours):
            return KeyProblem(
                "expired", f"the key {shown}, whose time ended ({file}: {ours[0].valid_before})",
                f"See that the clock is right. {_ROTATE}",
            )  # fmt: skip
        return None

    def require_tools(self) -> None:
        """Refuse where no signature can be verified, whatever release comes.

        Raises:
            ModelOpsError: others may write root's files, or there is no ssh-keygen.
        """
        for path in (self.folder / SIGNERS, self.folder / REVOKED):
            closed.require(path, _OTHERS)
        if not shutil.which(ssh_keygen.PROGRAM):
            raise ModelOpsError(f"there is no {ssh_keygen.PROGRAM}", where="PATH", remedy=_INSTALL)

    def _why(self, model: str, found: sshsig.Signature, where: object, said: str) -> ModelOpsError:
        """Say why ssh-keygen refused a signature: it says so in a few words alone."""
        name = signers.namespace(model)
        if found.namespace != name:
            return _refused(
                "foreign", f"it is signed for {found.namespace!r}, not for {name}", where,
                f"Bring a release of {model}. {_AGAIN}",
            )  # fmt: skip
        if wrong := self.key_problem(model, found.key):
            what = f"it is signed with {wrong.what}"
            return _refused(wrong.reason, what, where, f"{wrong.remedy} {_AGAIN}")
        return _refused(
            "forged", f"the manifest is not the one that was signed ({said})", where,
            f"Look who changed it, or its signature. {_AGAIN}",
        )  # fmt: skip

    @staticmethod
    def _require_said(listed: Mapping[str, Any], model: str, where: object) -> None:
        said = listed.get(signed.SECTION)
        if not said:
            raise _refused(
                "unsigned", "its manifest has a signature but no serial: it was not signed as a"
                " release", where, f"{_AGAIN} {_BY_HAND}",
            )  # fmt: skip
        if said["model"] != model:
            raise _refused(
                "foreign", f"it is signed as a release of {said['model']!r}, not of {model}", where,
                f"Bring a release of {model}. {_AGAIN}",
            )  # fmt: skip
        if said["verdict"] != signed.PASSED:
            raise _refused(
                "failed", f"what was signed is the verdict {said['verdict']!r}", where, _AGAIN,
            )  # fmt: skip


def _is_there(path: Path) -> bool:
    """Tell whether something has that name; what may not be looked at is an error, not a no."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _refused(reason: str, what: str, where: object, remedy: str) -> ModelOpsError:
    return ModelOpsError(what, where=where, remedy=f"{remedy} {_FP32}", reason=reason)
