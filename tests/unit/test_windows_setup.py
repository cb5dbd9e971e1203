"""windows/setup.ps1 cannot be run here: its syntax, and what it calls, are looked at instead."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import itertools
import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import tree_sitter_powershell
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tree_sitter import Language, Node, Parser

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "windows/setup.ps1"

# The cmdlets that it may call, each with the parameters that Microsoft's documentation of Windows
# PowerShell 5.1 (and of the modules of Windows) gives it. Look a new one up before it comes here.
KNOWN = {
    "ConvertFrom-Json": "InputObject",
    "ConvertTo-Json": "InputObject Depth Compress",
    "ForEach-Object": "Process",
    "Get-Acl": "Path",
    "Get-ChildItem": "Path",
    "Get-CimInstance": "ClassName Filter",
    "Get-Content": "Path Raw",
    "Get-Date": "",
    "Get-Item": "Path",
    "Get-ItemProperty": "Path Name",
    "Get-LocalUser": "Name SID",
    "Get-NetConnectionProfile": "InterfaceAlias NetworkCategory",
    "Get-NetFirewallAddressFilter": "AssociatedNetFirewallRule",
    "Get-NetFirewallRule": "Name",
    "Get-Service": "Name",
    "Get-WSManInstance": "ResourceURI Enumerate SelectorSet",
    "Join-Path": "Path ChildPath",
    "New-Item": "Path ItemType Force",
    "New-ItemProperty": "Path Name PropertyType Value Force",
    "New-LocalUser": "Name Password Description PasswordNeverExpires UserMayNotChangePassword",
    "New-NetFirewallRule": "Name DisplayName Direction Action Protocol LocalPort RemotePort"
    " RemoteAddress Profile",
    "New-SelfSignedCertificate": "FriendlyName Subject TextExtension CertStoreLocation KeyAlgorithm"
    " KeyLength HashAlgorithm KeyExportPolicy NotAfter",
    "New-WSManInstance": "ResourceURI SelectorSet ValueSet",
    "Read-Host": "Prompt AsSecureString",
    "Remove-CimInstance": "InputObject",
    "Remove-Item": "Path Recurse DeleteKey",  # DeleteKey: for a path of the drive Cert: alone
    "Remove-ItemProperty": "Path Name",
    "Remove-LocalUser": "Name",
    "Remove-NetFirewallRule": "Name",
    "Remove-WSManInstance": "ResourceURI SelectorSet",
    "Set-Acl": "Path AclObject",
    "Set-Content": "Path Value Encoding",
    "Set-Item": "Path Value Force",
    "Set-Service": "Name StartupType Status",
    "Set-StrictMode": "Version",
    "Sort-Object": "",
    "Test-Path": "Path PathType",
    "Where-Object": "FilterScript",
    "Write-Output": "InputObject",
}
COMMON = {"ErrorAction"}
CHANGING = ("Set-", "New-", "Remove-", "Start-", "Stop-", "Add-", "Clear-")


def parse(source: str) -> Node:
    return Parser(Language(tree_sitter_powershell.language())).parse(source.encode()).root_node


def text(node: Node | None) -> str:
    return node.text.decode() if node is not None and node.text else ""


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def of(node: Node, *kinds: str) -> list[Node]:
    return [found for found in walk(node) if found.type in kinds]


def entries(literal: Node) -> dict[str, Node]:
    """Return what stands in a hash literal, by key."""
    body = [child for child in literal.children if child.type == "hash_literal_body"]
    found = [entry for part in body for entry in part.children if entry.type == "hash_entry"]
    return {text(entry.children[0]): entry.children[2] for entry in found}


def assigned(root: Node) -> dict[str, Node]:
    """Return the value of each variable, the first one where there are several."""
    found = [(text(n.children[0]), n.children[-1]) for n in of(root, "assignment_expression")]
    return dict(reversed(found))


def parameters(command: Node, root: Node) -> dict[str, str]:
    """Return a command's parameters and the text after each, those of a splatted table too."""
    found: dict[str, str] = {}
    [elements] = of(command, "command_elements")[:1] or [None]
    parts = [n for n in elements.children if n.type != "command_argument_sep"] if elements else []
    for part, after in itertools.zip_longest(parts, parts[1:]):
        if part.type == "command_parameter":
            found[text(part)[1:]] = text(after)
        elif text(part).startswith("@") and text(part)[1:].isidentifier():
            [table] = of(assigned(root)[f"${text(part)[1:]}"], "hash_literal_expression")[:1]
            found |= {key: text(value) for key, value in entries(table).items()}
    return found


def problems(source: str) -> list[str]:
    """Return what Windows PowerShell 5.1 would not take, or a reader should not have to."""
    root = parse(source)
    functions = {text(n) for n in of(root, "function_name")}
    found = [f"syntax: {text(n)}" for n in walk(root) if n.is_error or n.is_missing]
    found += [f"only PowerShell 7: {text(n)}" for n in of(root, "pipeline_chain_tail")]
    found += ["not ASCII: 5.1 reads it in the code page of the PC"] * (not source.isascii())
    for command in of(root, "command"):
        name = text(command.child_by_field_name("command_name") or command.children[0])
        if name in functions or name == "&" or command.children[0].type.startswith("command_inv"):
            continue
        if name not in KNOWN:
            found.append(f"unknown: {name}")
            continue
        given = parameters(command, root)
        for parameter in set(given) - set(KNOWN[name].split()) - COMMON:
            found.append(f"parameter: {name} -{parameter}")
        if re.match(r"['\"]", given.get("Password", "")):
            found.append(f"password: {name}")
    for variable, value in assigned(root).items():
        if "password" in variable.lower() and re.match(r"\s*['\"]", text(value)):
            found.append(f"password: {variable}")
    return found


@pytest.fixture(scope="module")
def root() -> Node:
    return parse(SCRIPT.read_text())


@pytest.fixture(scope="module")
def settings(root) -> list[dict[str, Node]]:
    tables = [entries(n) for n in of(assigned(root)["$settings"], "hash_literal_expression")]
    return [table for table in tables if "Want" in table]


def test_nothing_is_wrong_with_it():
    assert problems(SCRIPT.read_text()) == []
    assert len(of(parse(SCRIPT.read_text()), "command")) > 50


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("if ($a) { 'x'", "syntax"),
        ("$x = $a ?? 3", "syntax"),
        ("$x = $a ? 1 : 2", "syntax"),
        ("Get-Date && Get-Date", "only PowerShell 7: &&"),
        ("$x = $a?.Name", "syntax"),
        ("gci -Path C:\\", "unknown: gci"),
        ("Get-Date | % { $_ }", "unknown: %"),
        ("Get-Servise -Name WinRM", "unknown: Get-Servise"),
        ("winrm.cmd quickconfig", "unknown: winrm.cmd"),
        ("Set-Service -Name WinRM -State Running", "parameter: Set-Service -State"),
        ("$a = @{ Name = 'x'; Group = 'y' }\nNew-LocalUser @a", "parameter: New-LocalUser -Group"),
        ("New-LocalUser -Name x -Password 'secret'", "password: New-LocalUser"),
        ("$a = @{ Password = 'secret' }\nNew-LocalUser @a", "password: New-LocalUser"),
        ("$password = 'secret'", "password: $password"),
        ("ConvertTo-SecureString -String x -AsPlainText", "unknown: ConvertTo-SecureString"),
        ("Write-Output 'está'", "not ASCII"),
    ],
)
def test_what_is_wrong_is_found(broken, words):
    assert [problem for problem in problems(broken) if words in problem], problems(broken)


def test_every_setting_can_be_read_set_and_recorded(settings):
    assert len(settings) >= 16
    assert all({"Name", "Want", "Get", "Set"} <= set(setting) for setting in settings)
    names = [text(setting["Name"]) for setting in settings]
    assert len(set(names)) == len(names)  # the record of what was before has them as keys


def test_nothing_is_changed_but_what_is_asked_for_and_recorded(root):
    """Set-Setting asks (-WhatIf), records and calls what is below Set; only that may change things.

    The one change besides is the removal of the script's own folder, which asks by itself.
    """
    inside = [value for n in of(root, "hash_literal_expression")
              for key, value in entries(n).items() if key == "Set"]  # fmt: skip
    inside += [value for name, value in assigned(root).items() if name.startswith("$write")]
    inside += [n for n in of(root, "function_statement") if "Listener" in text(n)[:30]]
    inside += [n for n in of(root, "function_statement") if "Save-Record" in text(n)[:30]]
    allowed = {(n.start_byte, n.end_byte) for part in inside for n in of(part, "command")}
    outside = [n for n in of(root, "command") if (n.start_byte, n.end_byte) not in allowed]
    changing = [text(n) for n in outside if text(n).startswith(CHANGING)]
    own = {"Set-StrictMode -Version 1.0", "Remove-Item -Path $own -Recurse"}
    assert own <= set(changing)
    assert [line for line in changing if line not in own and "Set-Setting" not in line] == []


def test_the_documentation_and_the_inventories_agree(root, settings):
    page = (ROOT / "docs/windows-setup.md").read_text()
    defaults = {
        name: match[1]
        for name in ("User", "Folder")
        if (match := re.search(rf"\${name} = '([^']+)'", SCRIPT.read_text()))
    }
    for setting in settings:
        name = text(setting["Name"]).strip("'\"")
        for key, value in defaults.items():
            name = name.replace(f"${key}", value)
        assert f"| {name} |" in page, name
    for inventory in ("staging", "production"):
        path = ROOT / "inventory" / inventory / "group_vars/builder/main.yml"
        variables = yaml.safe_load(path.read_text())
        assert variables["ansible_user"] == defaults["User"]
        assert variables["sarai_builder_dir"].startswith(defaults["Folder"] + "\\")
        assert variables["ansible_port"] == 5986
        assert variables["ansible_winrm_ca_trust_path"].endswith("/files/winrm-ca.pem")


@pytest.fixture
def served(tmp_path):
    """A port that has a certificate of the form that the script asks Windows for, and its file."""
    key = rsa.generate_private_key(65537, 3072)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    use = dict.fromkeys(
        ["content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"], False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.KeyUsage(digital_signature=True, key_encipherment=True, **use), True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "both.pem").write_bytes(pem + private)
    file = tmp_path / "winrm-ca.pem"
    file.write_bytes(pem.replace(b"\n", b"\r\n"))  # as Set-Content ends lines
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], file
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_controller_takes_the_certificate_as_its_own_authority(served, name):
    port, file = served
    url = f"https://{name}:{port}/wsman"
    assert requests.get(url, verify=str(file), timeout=10).status_code == 501
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, timeout=10)
