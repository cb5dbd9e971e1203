"""Serve one host of the bed: python -m winrm_double FOLDER (windows_bed.py makes it)."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

from . import ssh
from .programs import Programs
from .wire import Server
from .wsman import Faults, Host

WATCH_S = 0.05


def main() -> None:
    folder = Path(sys.argv[1])
    given = json.loads((folder / "host.json").read_text())
    accounts = folder / "accounts"
    accounts.write_text(
        "".join(f"{domain}:{given['user']}:{given['password']}\n" for domain in ("", "WORKGROUP"))
    )
    accounts.chmod(0o600)
    os.environ["NTLM_USER_FILE"] = str(accounts)
    own = Programs(folder / "prefix", given["environment"], given["user"])
    faults = Faults(folder / "faults.json")
    host = Host(own, faults, folder / "log", given["user"], given["password"])
    resident = _resident(own, given["environment"])
    ssh.serve(folder, host)
    sshd, ssh_port = ssh.sshd(folder, given["address"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    servers: list[Server] = []
    certificate, boot = "", faults.get("boot", 0)
    ports: list[int] = given.get("ports") or [0, 0]
    try:
        while True:
            now = faults.get("certificate", "server")
            if faults.get("boot", 0) != boot:
                boot = faults.get("boot", 0)
                host.forget()
                resident = _resident(own, given["environment"])
            if servers and (faults.get("stopped", False) or now != certificate):
                for server in servers:
                    server.stop()
                servers.clear()
                if faults.get("stopped", False):
                    host.forget()
            if not servers and not faults.get("stopped", False):
                certificate = now
                tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                tls.load_cert_chain(folder / f"{now}.pem")
                for port, kind in zip(ports, (tls, None), strict=True):
                    servers.append(Server((given["address"], port), host, kind))
                    servers[-1].start()
                ports = [server.server_address[1] for server in servers]
                ready = folder / "ports.part"
                ready.write_text(json.dumps([*ports, ssh_port]))
                ready.rename(folder / "ports")
            time.sleep(WATCH_S)
    finally:
        resident.kill()
        sshd.kill()


def _resident(own: Programs, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Keep one program of the prefix alive: without one, every start costs 2.5 s."""
    return subprocess.Popen(
        ["wine", "cmd.exe", "/c", "pause"], cwd=own.root, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
