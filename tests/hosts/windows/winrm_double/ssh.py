"""The way in over SSH: a real sshd of Debian, whose forced command hands over to the double.

    python ssh.py FOLDER                                        (what sshd starts for a session)

What sshd is asked to run goes to the double's own process over a socket, since a job outlives its
session. PowerShell is the DefaultShell, as windows/setup.ps1 sets it: it starts the command line
and says 1 for whatever code that ends with. SFTP is Debian's sftp-server, which sees drive C: as
`/C:`, whose names have one case alone here.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SFTP = "/usr/lib/openssh/sftp-server"
SOCKET = "ssh.sock"
OUT, ERR, END = 1, 2, 3
_HEAD = struct.Struct("!BI")
CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/ssh_host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp {sftp}
ForceCommand exec {python} -IS {script} {folder}
"""
# A root of its own for sftp-server: what it needs of this machine, and drive C:.
ROOT = """\
set -e; root=$1/sftp; mkdir -p "$root"; mount -t tmpfs bed "$root"
cd "$root"; mkdir usr etc dev C:; touch dev/null; mount --bind /dev/null dev/null
ln -s usr/lib lib; ln -s usr/lib64 lib64; cp /etc/passwd etc
mount --bind /usr usr; mount --bind "$1/prefix/drive_c" C:; exec chroot "$root" "$2"
"""


def serve(folder: Path, host: Any) -> None:
    """Take what the forced commands bring, each in a thread of its own."""
    from .wsman import Shell

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = json.loads(self.rfile.readline())["line"]
            command = _command(host, Shell("ssh", {}, None), line)
            threading.Thread(target=self._feed, args=(command,), daemon=True).start()
            with contextlib.suppress(OSError):
                self._answer(command)
            command.end()

        def _feed(self, command: Any) -> None:
            while data := self.connection.recv(1 << 16):
                with command.changed:
                    command.stdin += data
            with command.changed:
                command.eof = True
                command.changed.notify_all()

        def _answer(self, command: Any) -> None:
            code = None
            while code is None:
                with command.changed:
                    while not (command.out or command.err or command.code is not None):
                        command.changed.wait(1)
                    out, err, code = command.out, command.err, command.code
                    command.out = command.err = b""
                for stream, data in ((OUT, out), (ERR, err)):
                    if data:
                        self.wfile.write(_HEAD.pack(stream, len(data)) + data)
            self.wfile.write(_HEAD.pack(END, min(abs(code), 1)))

    (folder / SOCKET).unlink(missing_ok=True)
    server = socketserver.ThreadingUnixStreamServer(str(folder / SOCKET), Session)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _command(host: Any, shell: Any, line: str) -> Any:
    from .programs import UnsupportedError, kill, split_command_line
    from .wsman import Command

    class SshCommand(Command):
        """A command of a session, which no quota of WinRM limits."""

        def started(self, process: Any) -> None:
            self.process = process
            if self.ended:
                kill(process)

        def work(self) -> int:
            words = split_command_line(self.line)
            if not words or words[0].lower() not in ("powershell", "powershell.exe"):
                raise UnsupportedError(f"a line of PowerShell: {self.line[:200]!r}")
            return super().work()

    return SshCommand(host, shell, line, console=False)


def sshd(folder: Path, address: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start sshd for a host; it ends with this process. Return it, and its port."""
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    config = folder / "sshd_config"
    known = {"folder": folder, "python": sys.executable, "script": Path(__file__).resolve()}
    config.write_text(CONFIG.format(port=port, address=address, sftp=SFTP, **known))
    command = ["setpriv", "--pdeathsig", "KILL", "/usr/sbin/sshd", "-D", "-e", "-f", config]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL), port


def main() -> int:
    """Hand one session over, and bring back what the double says."""
    folder, line = sys.argv[1], os.environ.get("SSH_ORIGINAL_COMMAND", "")
    if line == SFTP:
        command = ("unshare", "--mount", "sh", "-c", ROOT, "sh", folder, SFTP)
        os.execvp(command[0], command)
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(f"{folder}/{SOCKET}")
        link.sendall(json.dumps({"line": line}).encode() + b"\n")

        def feed() -> None:
            while data := os.read(0, 1 << 16):
                link.sendall(data)
            link.shutdown(socket.SHUT_WR)

        threading.Thread(target=feed, daemon=True).start()
        with link.makefile("rb") as answers:
            while head := answers.read(_HEAD.size):
                kind, size = _HEAD.unpack(head)
                if kind == END:
                    return int(size)
                to = sys.stdout if kind == OUT else sys.stderr
                to.buffer.write(answers.read(size))
                to.buffer.flush()
    return 255


if __name__ == "__main__":
    sys.exit(main())
