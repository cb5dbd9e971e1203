"""Pushing over SFTP, to a real SFTP server on loopback in a thread of this process."""

from __future__ import annotations

import asyncio
import threading

import asyncssh
import pytest
from modelops.base.errors import ModelOpsError
from modelops.pair import manifest, sftp

SIZE = 3 * sftp.IN_FLIGHT * sftp.BLOCK + 12_345


class Server(asyncssh.SSHServer):
    """Lets in whoever has the key that the push has published."""

    key_file = None

    def begin_auth(self, username):
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return self.key_file is not None and asyncssh.read_public_key(self.key_file) == key


@pytest.fixture
def there(tmp_path):
    """Return the folder of a server, and a function that pushes a folder's files to it."""
    folder, source = tmp_path / "there", tmp_path / "here"
    folder.mkdir()
    source.mkdir()
    content = bytes(i * 7 % 251 for i in range(9973))
    (source / "a.onnx").write_bytes(b"graph")
    (source / "a.onnx.data").write_bytes((content * (SIZE // len(content) + 1))[:SIZE])
    host_key, public = asyncssh.generate_private_key("ssh-ed25519"), tmp_path / "public"
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    mine = type("Mine", (Server,), {"key_file": public})

    async def listen():
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[host_key], server_factory=mine, sftp_factory=True
        )

    async def close():
        server.close()
        await server.wait_closed()

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    known = host_key.export_public_key().decode().strip()
    files = [manifest.describe(path) for path in sorted(source.iterdir())]

    def push(key=known, progress=None):
        where = sftp.Where("127.0.0.1", server.get_port(), "me", key, str(folder))
        return sftp.push(source, files, where, public, progress)

    yield folder, source, push
    asyncio.run_coroutine_threadsafe(close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_all_arrives_and_a_second_push_sends_nothing(there):
    folder, source, push = there
    told = []
    done = push(progress=lambda *figures: told.append(figures))
    assert done["sent"] == ["a.onnx", "a.onnx.data"] and done["sent_bytes"] == SIZE + 5
    for name in done["sent"]:
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    assert {path.name for path in folder.iterdir()} == set(done["sent"])
    counts = [count for _, count, _ in told]
    assert counts == sorted(counts) and counts[-1] == SIZE + 5
    assert {(phase, total) for phase, _, total in told} == {("sending to 127.0.0.1", SIZE + 5)}
    again = push()
    assert again["sent"] == [] and again["sent_bytes"] == 0


@pytest.mark.parametrize("cut", [1, 2 * sftp.IN_FLIGHT * sftp.BLOCK + 77, SIZE, SIZE + 999])
def test_a_push_that_was_cut_goes_on_and_fills_its_holes(there, cut):
    folder, source, push = there
    whole = (source / "a.onnx.data").read_bytes()
    left = bytearray((whole + bytes(999))[:cut])
    hole = max(0, cut - sftp.IN_FLIGHT * sftp.BLOCK + sftp.BLOCK) if cut <= SIZE else cut
    left[hole:] = bytes(len(left) - hole)
    (folder / "a.onnx.data.part").write_bytes(left)
    sent = push()["sent_bytes"]
    assert (folder / "a.onnx.data").read_bytes() == whole
    again = (sftp.IN_FLIGHT + 1) * sftp.BLOCK
    assert sent <= 5 + SIZE - min(cut, SIZE) + min(cut, again)


def test_a_source_that_changed_gets_no_name(there):
    folder, source, push = there
    (source / "a.onnx.data").write_bytes(bytes(SIZE))
    with pytest.raises(ModelOpsError, match="instead of"):
        push()
    assert {path.name for path in folder.iterdir()} == {"a.onnx"}


def test_another_host_key_is_not_believed(there):
    folder, _, push = there
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    with pytest.raises(ModelOpsError, match="host key is not the one"):
        push(other)
    assert list(folder.iterdir()) == []
