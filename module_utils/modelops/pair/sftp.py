"""Push artifacts to a target's sshd over SFTP, resumable at any byte (asyncssh).

The key pair is made in this process's memory. Its public half is published in a file, and the push
begins when the target lets it in; the private half never leaves the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import asyncssh

from ..base import opener
from ..base.errors import ModelOpsError
from ..base.files import write_atomic
from ..base.progress import Progress

# Measured from Linux and from Windows Python: 16 KiB blocks and chacha20, the defaults, take four
# times as long, and OpenSSH ends the connection at 256 KiB.
BLOCK = 128 << 10
IN_FLIGHT = 32
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
RETRY_S = 0.5

_LOST = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
T = TypeVar("T")


@dataclass(frozen=True)
class Where:
    """Where to push, and how long to wait for what.

    Attributes:
        host_key: the target's public host key, `TYPE BASE64`; nothing else is believed.
        folder: the incoming folder on the target, writable for `user`.
        authorize_s: seconds until the target must let the new key in.
        stall_s: seconds without an answer after which a transfer counts as stuck.
        rate: bytes a second at most, 0 for as fast as it goes.
    """

    host: str
    port: int
    user: str
    host_key: str
    folder: str
    authorize_s: float = 60
    stall_s: float = 30
    rate: float = 0


def push(
    source: Path,
    files: Sequence[Mapping[str, Any]],
    where: Where,
    public_key_file: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Push the files of a manifest that are not there yet.

    Args:
        source: the folder that they lie in.
        files: entries with name, size in bytes and sha256.
        public_key_file: gets the public half of the key, one line.
        progress: called with the phase, and the bytes sent and to send.

    Returns:
        `sent` (names), `sent_bytes` (less than the files' where a push was resumed), `elapsed_s`.

    Raises:
        ModelOpsError: the target is not reached, not the one it should be, does not let the key in,
            has no room, or does not answer; a source is not what its entry says.
    """
    key = asyncssh.generate_private_key("ssh-ed25519", comment="modelops transfer")
    write_atomic(public_key_file, key.export_public_key())
    try:
        return asyncio.run(_push(source, list(files), where, key, progress))
    except ModelOpsError:
        raise
    except (TimeoutError, OSError, asyncssh.Error) as error:
        raise _explained(error, where) from None


async def _push(
    source: Path,
    files: list[Mapping[str, Any]],
    where: Where,
    key: asyncssh.SSHKey,
    progress: Progress | None,
) -> dict[str, Any]:
    total = sum(int(entry["size"]) for entry in files)
    job = _Job(where, progress, total)
    async with await _connect(where, key) as connection, connection.start_sftp_client() as sftp:
        await job.require_room(sftp, files)
        sent = [e["name"] for e in files if await job.send(sftp, source / e["name"], e)]
    elapsed = round(time.monotonic() - job.started, 3)
    return {"sent": sent, "sent_bytes": job.sent, "elapsed_s": elapsed}


async def _connect(where: Where, key: asyncssh.SSHKey) -> asyncssh.SSHClientConnection:
    """Connect as soon as the target lets the key in."""
    name = where.host if where.port == 22 else f"[{where.host}]:{where.port}"
    known = asyncssh.import_known_hosts(f"{name} {where.host_key}\n")
    deadline = time.monotonic() + where.authorize_s
    while True:
        try:
            return await asyncssh.connect(
                where.host, where.port, username=where.user, client_keys=[key], known_hosts=known,
                config=None, agent_path=None, encryption_algs=list(CIPHERS),
                compression_algs=["none"], connect_timeout=where.stall_s,
                keepalive_interval=5, keepalive_count_max=max(1, int(where.stall_s / 5)),
            )  # fmt: skip
        except asyncssh.PermissionDenied:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RETRY_S)


class _Job:
    """One push: what was sent, and how fast."""

    def __init__(self, where: Where, progress: Progress | None, total: int) -> None:
        self.started = time.monotonic()
        self.sent = 0
        self._where, self._progress, self._total = where, progress, total
        self._done = 0

    async def require_room(
        self, sftp: asyncssh.SFTPClient, files: Sequence[Mapping[str, Any]]
    ) -> None:
        there = 0
        for entry in files:
            for name in (entry["name"], f"{entry['name']}.part"):
                there += await _size(sftp, self._remote(name)) or 0
        needed = self._total - there
        found = await self._soon(sftp.statvfs(self._where.folder))
        free = found.bavail * found.frsize
        if free < needed:
            raise ModelOpsError(
                f"not enough room for the artifacts: {needed:,} bytes needed, {free:,} bytes free",
                where=f"{self._where.host}:{self._where.folder}",
                remedy="Free space on the target's disk, and run again.",
            )

    async def send(self, sftp: asyncssh.SFTPClient, path: Path, entry: Mapping[str, Any]) -> bool:
        """Send one file; False when it was there already."""
        final, size = self._remote(entry["name"]), int(entry["size"])
        part = f"{final}.part"
        if await _size(sftp, final) == size:
            self._tell(size)
            return False
        # The blocks in flight when a push was cut may have left holes: they are sent again.
        there = await _size(sftp, part) or 0
        start = max(0, min(there, size) - IN_FLIGHT * BLOCK) // BLOCK * BLOCK
        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | (0 if start else asyncssh.FXF_TRUNC)
        digest = hashlib.sha256()
        with opener.unbuffered(path) as local:
            _skip(local, start, digest)
            self._tell(start)
            async with await self._soon(
                sftp.open(part, flags, encoding=None, block_size=BLOCK)
            ) as remote:
                await self._stream(local, remote, start, digest)
                await self._soon(remote.truncate(size))
                await self._soon(remote.fsync())
        if digest.hexdigest() != entry["sha256"]:
            await self._soon(sftp.remove(part))
            raise ModelOpsError(
                f"SHA-256 {digest.hexdigest()} instead of {entry['sha256']}",
                where=path,
                remedy="Run the quantize phase again; something changed the artifacts.",
            )
        await self._soon(sftp.posix_rename(part, final))
        return True

    async def _stream(
        self, local: BinaryIO, remote: asyncssh.SFTPClientFile, offset: int, digest: Any
    ) -> None:
        waiting: set[asyncio.Task[Any]] = set()
        began, own = time.monotonic(), 0
        try:
            while block := local.read(BLOCK):
                digest.update(block)
                waiting.add(asyncio.create_task(_write(remote, block, offset)))
                offset, own = offset + len(block), own + len(block)
                if len(waiting) >= IN_FLIGHT:
                    waiting = await self._some(waiting)
                self.sent += len(block)
                self._tell(len(block))
                if self._where.rate:
                    await asyncio.sleep(own / self._where.rate - (time.monotonic() - began))
            while waiting:
                waiting = await self._some(waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _some(self, waiting: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
        """Wait for at least one answer; raise what went wrong."""
        done, rest = await asyncio.wait(
            waiting, timeout=self._where.stall_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            raise TimeoutError
        for task in done:
            task.result()
        return rest

    async def _soon(self, answer: Awaitable[T]) -> T:
        return await asyncio.wait_for(answer, self._where.stall_s)

    def _remote(self, name: str) -> str:
        return f"{self._where.folder}/{name}"

    def _tell(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(f"sending to {self._where.host}", self._done, self._total)


async def _write(remote: asyncssh.SFTPClientFile, block: bytes, offset: int) -> None:
    await remote.write(block, offset)


async def _size(sftp: asyncssh.SFTPClient, path: str) -> int | None:
    try:
        return (await sftp.stat(path)).size
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
        return None


def _skip(local: BinaryIO, count: int, digest: Any) -> None:
    """Hash what the target has already."""
    while count:
        block = local.read(min(count, 1 << 20))
        if not block:
            return
        digest.update(block)
        count -= len(block)


def _explained(error: Exception, where: Where) -> ModelOpsError:
    """Say what went wrong in the words of whoever runs this."""
    place = f"{where.user}@{where.host}:{where.port}"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        text, remedy = (
            "the target's host key is not the one that Ansible knows",
            "Unless the host was installed again, another machine may be answering: look.",
        )
    elif isinstance(error, asyncssh.PermissionDenied):
        text, remedy = (
            f"the target did not let the key of this transfer in within {where.authorize_s:g} s",
            "Look at the target's sshd (journalctl -u ssh) for why it refused it.",
        )
    elif isinstance(error, asyncssh.SFTPBadMessage):
        text, remedy = (
            f"what answers there does not speak SFTP ({error})",
            "See that the target's sshd has internal-sftp, and what this account runs instead.",
        )
    elif isinstance(error, asyncssh.SFTPPermissionDenied):
        text, remedy = f"{where.folder} is not writable there ({error})", "See who owns it."
    elif isinstance(error, TimeoutError):
        text, remedy = (
            f"the target did not answer for {where.stall_s:g} s",
            "Run again when the link is back: what was sent already is not sent again.",
        )
    elif isinstance(error, asyncssh.SFTPError) and not isinstance(error, _LOST):
        text, remedy = (
            f"the target refused a write ({error})",
            "Look whether its disk is full or broken; run again: what was sent is kept.",
        )
    else:
        text, remedy = (
            f"the connection failed ({error})",
            "Run again when the link is back: what was sent already is not sent again.",
        )
    return ModelOpsError(text, where=place, remedy=remedy)
