"""HTTP and HTTPS, Basic and NTLM, and the encryption of messages over HTTP."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import socketserver
import ssl
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import spnego

from .wsman import Host, HttpError, answer

SOAP = "application/soap+xml;charset=UTF-8"
ENCRYPTED = (
    'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted"'
    ';boundary="Encrypted Boundary"'
)


class Handler(BaseHTTPRequestHandler):
    """One connection; what NTLM agreed on lives as long as it, as in http.sys."""

    protocol_version, server_version = "HTTP/1.1", "Microsoft-HTTPAPI/2.0"
    wbufsize, disable_nagle_algorithm = -1, True
    server: Server
    context: Any = None

    def log_message(self, *arguments: object) -> None:
        pass

    def reply(self, code: int, body: bytes = b"", kind: str = SOAP, *headers: tuple) -> None:
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        if body:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def cut(self) -> None:
        """Break the connection without an answer."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def unauthorized(self, token: str = "") -> bool:
        kinds = [token] if token else ["Negotiate"]
        if not token and self.server.tls:  # Basic is off over HTTP: AllowUnencrypted is false
            kinds.append('Basic realm="WSMAN"')
        self.reply(401, b"", SOAP, *(("WWW-Authenticate", kind) for kind in kinds))
        return False

    def authenticated(self) -> bool:
        """Take one step of the authentication; answer 401 when it is not at its end."""
        given = self.headers.get("Authorization", "")
        if given.startswith("Basic "):
            if not self.server.tls:
                return self.unauthorized()
            user, _, password = base64.b64decode(given[6:]).decode().partition(":")
            fits = (user, password) == (self.server.host.user, self.server.host.password)
            return fits or self.unauthorized()
        match = re.fullmatch(r"(Negotiate|NTLM) (\S+)", given)
        if match is None:
            bound = self.context is not None and self.context.complete
            return bound or self.unauthorized()
        token = base64.b64decode(match[2])
        if self.context is None or token.startswith(b"NTLMSSP\0\x01\0\0\0"):
            protocol = "ntlm" if token.startswith(b"NTLMSSP\0") else "negotiate"
            self.context = spnego.server(protocol=protocol, hostname="WINHOST", service="http")
        try:
            answer_token = self.context.step(token)
        except spnego.exceptions.SpnegoError:
            self.context = None
            return self.unauthorized()
        if self.context.complete:
            return True
        return self.unauthorized(f"{match[1]} {base64.b64encode(answer_token or b'').decode()}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        host = self.server.host
        if host.faults.dropping():
            self.cut()
            return
        if not self.authenticated():
            return
        time.sleep(host.faults.get("slow_s", 0))
        encrypted = self.headers.get("Content-Type", "").startswith("multipart/encrypted")
        if encrypted:
            body = self.decrypted(body)
        elif not body:  # pywinrm authenticates first
            self.reply(200)
            return
        elif not self.server.tls:
            self.reply(500, b"double: unencrypted traffic is not allowed", "text/plain")
            return
        try:
            code, envelope = answer(host, body)
        except HttpError as error:
            self.reply(error.status)
            return
        if host.faults.dropping():
            self.cut()
        elif encrypted:
            self.reply(code, self.encrypted(envelope), ENCRYPTED)
        else:
            self.reply(code, envelope)

    def decrypted(self, body: bytes) -> bytes:
        head = b"\tContent-Type: application/octet-stream\r\n"
        payload = body.split(head, 1)[1].rsplit(b"--Encrypted Boundary--", 1)[0]
        (length,) = struct.unpack("<i", payload[:4])
        return self.context.unwrap_winrm(payload[4 : 4 + length], payload[4 + length :])

    def encrypted(self, envelope: bytes) -> bytes:
        wrapped = self.context.wrap_winrm(envelope)
        head = (
            "--Encrypted Boundary\r\n"
            "\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
            f"\tOriginalContent: type={SOAP};Length={len(envelope)}\r\n"
            "--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
        )
        size = struct.pack("<i", len(wrapped.header))
        return head.encode() + size + wrapped.header + wrapped.data + b"--Encrypted Boundary--\r\n"


class Server(socketserver.ThreadingTCPServer):
    """A listener, with TLS or without."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, address: tuple[str, int], host: Host, tls: ssl.SSLContext | None) -> None:
        self.host, self.tls = host, tls
        self._open: set[socket.socket] = set()
        super().__init__(address, Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake belongs to the connection's thread: accept() must not wait for it.
        try:
            channel = self.tls.wrap_socket(request, server_side=True) if self.tls else request
        except OSError:
            return
        self._open.add(channel)
        try:
            super().finish_request(channel, client_address)
        except OSError:
            pass
        finally:
            self._open.discard(channel)

    def stop(self) -> None:
        """Listen no more and break what is open, as a service that is stopped."""
        self.shutdown()
        self.server_close()
        for channel in list(self._open):
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=[0.1], daemon=True).start()
