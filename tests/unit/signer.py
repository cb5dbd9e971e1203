"""A controller that signs, with real ssh-keygen, and a target that asks for signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelops.signing import ssh_keygen
from modelops.signing.keys import Keys
from modelops.signing.ledger import Signing
from modelops.signing.trust import Trust
from modelops.target.store import Store
from target import Target


class Controller:
    """A controller's key and ledger."""

    def __init__(self, folder: Path, model: str = "m") -> None:
        self.model = model
        self.key = folder / "keys" / "ed25519"
        self.keys = Keys(model, self.key)
        self.told = self.keys.present(False)
        self.signing = Signing(model, self.key, folder / "ledger")

    def sign(self, listed: dict[str, Any], verdict: str = "pass") -> tuple[dict[str, Any], str]:
        made = self.signing.sign(listed, verdict, False)
        return made["manifest"], made["signature"]

    def signature(self, content: bytes, namespace: str = "") -> str:
        """A signature of any bytes, as whoever has the key can make it."""
        return ssh_keygen.sign(content, self.key, namespace or f"modelops-release@{self.model}")


class SigningTarget(Target):
    """A target that lets in what a controller signed."""

    def __init__(self, folder: Path, controller: Controller) -> None:
        super().__init__(folder / "target")
        self.etc, self.var = folder / "etc", folder / "var"
        self.trust = Trust(self.etc, self.var)
        self.learn(controller)
        self.know()

    def learn(self, controller: Controller) -> None:
        told = controller.keys.present(False)
        self.trust.learn(told["signers"], told["revoked"])

    def know(
        self, listed: dict[str, Any] | None = None, signature: str = "", **options: Any
    ) -> None:
        """What the controller tells of a release with each call, and the run's own options."""
        trust = Trust(self.etc, self.var, **options)
        self.store = Store(self.root, "m", listed, None, trust, signature)

    def bring(self, listed: dict[str, Any], signature: str, **options: Any) -> None:
        """A run of the controller: stage, accept, activate and commit a release."""
        self.know(listed, signature, **options)
        release = listed["release_id"]
        self.stage(listed)
        self.trust.remember(listed, "m")
        self.activate(release)
        self.commit(release)
        self.know()
