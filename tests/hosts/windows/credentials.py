"""The certificates and keys of a Windows host of the bed, made anew for each."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID


def certificates(folder: Path, address: str) -> None:
    """Make a CA, a certificate of it, one that expired, and one of a CA that nobody knows."""
    now = datetime.datetime.now(datetime.UTC)
    year = datetime.timedelta(days=365)
    cas = {name: _ca(name, now) for name in ("ca", "other")}
    wanted = ("server", "ca", year), ("expired", "ca", -year / 12), ("stranger", "other", year)
    for name, ca, left in wanted:
        authority, signer = cas[ca]
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("winhost")]
        )
        certificate = (
            _builder("winhost", authority.subject, key, now, now + left)
            .add_extension(names, critical=False)
            .sign(signer, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM) + _pem(key)
        )
    (folder / "ca.pem").write_bytes(cas["ca"][0].public_bytes(serialization.Encoding.PEM))


def ssh_keys(folder: Path) -> None:
    """Make the key of sshd and that of the client, and let each know the other."""
    for private, public, who in (
        ("ssh_host_key", "known_hosts", "* "),
        ("ssh_key", "authorized_keys", ""),
    ):
        key = ed25519.Ed25519PrivateKey.generate()
        form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        (folder / public).write_text(f"{who}{key.public_key().public_bytes(*form).decode()}\n")
        made = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        (folder / private).touch(mode=0o600)
        (folder / private).write_bytes(made)


def _ca(name: str, now: datetime.datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"bed {name}")])
    until = now + datetime.timedelta(days=730)
    certificate = (
        _builder(f"bed {name}", subject, key, now, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _builder(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(until)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
