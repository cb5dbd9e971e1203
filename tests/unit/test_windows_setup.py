"""windows/setup.ps1 cannot be run here: its syntax, and what it calls, are looked at instead."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import re
import ssl
import threading
from pathlib import Path

import powershell
import powershell_profile
import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from powershell import assigned, entries, functions, of, parse, text
from tree_sitter import Node

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "windows/setup.ps1"
PROFILE = powershell_profile.load()
COMMANDS = {version: recorded["commands"] for version, recorded in PROFILE.items()}

ONLY_7 = {"Import-Module"}  # called where PowerShell 7 runs, with a parameter that 5.1 lacks
FROM_51 = {"PKI", "Microsoft.PowerShell.LocalAccounts"}  # modules that 7 takes from 5.1
PROVIDERS = {"Remove-Item": {"DeleteKey"}}  # parameters of a drive: Cert:
NO_LITERAL_PATH = {"New-Item"}  # its -Path is literal
CHANGING = ("Set-", "New-", "Remove-", "Start-", "Stop-", "Add-", "Clear-", "Move-")


def versions(name: str) -> list[str]:
    """Return the recorded versions that have to know a command."""
    if name in ONLY_7:
        return ["7.0"]
    known = COMMANDS["5.1"].get(name)
    return ["5.1"] if known and known["module"] in FROM_51 else ["5.1", "7.0"]


def misfit(kind: str, argument: str) -> str:
    """Return why an argument is none for a parameter of this type, or nothing."""
    if kind.endswith("SwitchParameter"):
        return "" if argument in ("", "$true", "$false") else "takes no argument"
    if not argument:
        return "needs an argument"
    number = re.search(r"U?Int(16|32|64)(\[\])?$", kind)
    if number and re.match(r"['\"@{]", argument):
        return "needs a number"
    if argument.startswith("@{") and not re.search(r"Hashtable|IDictionary|Object", kind):
        return "takes no table"
    if argument.startswith("{") and not re.search(r"ScriptBlock|Object", kind):
        return "takes no script block"
    return ""


def wrong_arguments(name: str, given: dict[str, str]) -> list[str]:
    """Return the parameters of a call that the recorded PowerShells do not know or do not take."""
    found = []
    for version in versions(name):
        known = COMMANDS[version].get(name)
        if known is None:
            found.append(f"unknown in {version}: {name}")
            continue
        types = PROFILE[version]["common"] | known["parameters"]
        for parameter in set(given) - PROVIDERS.get(name, set()):
            if parameter not in types:
                found.append(f"parameter in {version}: {name} -{parameter}")
            elif why := misfit(types[parameter], given[parameter]):
                found.append(f"type in {version}: {name} -{parameter} {why}")
    return found


def hidden_errors(name: str, given: dict[str, str]) -> list[str]:
    """Return a call that a script's $ErrorActionPreference does not reach, and that says nothing.

    Functions of a module (CDXML) do not see the caller's preference; nor do modules taken from 5.1.
    """
    known = COMMANDS["5.1"].get(name, {})
    unseen = known.get("kind") == "Functions" or known.get("module") in FROM_51
    if "NetFirewall" in name and given.get("ErrorAction") != "Stop":
        return [f"error: {name} without -ErrorAction Stop"]
    return [f"error: {name} without -ErrorAction"] if unseen and "ErrorAction" not in given else []


def problems(source: str) -> list[str]:
    """Return what Windows PowerShell 5.1 or 7 would not take, or a reader should not have to."""
    root = parse(source)
    own = functions(root)
    found = [f"syntax: {text(n)}" for n in powershell.walk(root) if n.is_error or n.is_missing]
    found += [f"only PowerShell 7: {text(n)}" for n in of(root, "pipeline_chain_tail")]
    found += ["not ASCII: 5.1 reads it in the code page of the PC"] * (not source.isascii())
    for name, command in powershell.commands(root):
        given = powershell.parameters(command, root)
        if re.match(r"['\"]", given.get("Password", "")):
            found.append(f"password: {name}")
        if name in own:
            continue
        found += wrong_arguments(name, given) + hidden_errors(name, given)
        if "Path" in given and name not in NO_LITERAL_PATH:
            found.append(f"wildcards: {name} -Path instead of -LiteralPath")
        if name == "Start-Process" and given.get("FilePath") not in PROFILE["5.1"]["programs"]:
            found.append(f"program: {given.get('FilePath')}")
    for variable, value in assigned(root).items():
        if "password" in variable.lower() and re.match(r"\s*['\"]", text(value)):
            found.append(f"password: {variable}")
    return found


@pytest.fixture(scope="module")
def root() -> Node:
    return parse(SCRIPT.read_text())


@pytest.fixture(scope="module")
def settings(root) -> list[dict[str, Node]]:
    made = functions(root)["Get-AllSettings"]
    tables = [entries(n) for n in of(made, "hash_literal_expression")]
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
        ("gci -Path C:\\", "unknown in 5.1: gci"),
        ("Get-Date | % { $_ }", "unknown in 5.1: %"),
        ("Get-Servise -Name WinRM", "unknown in 5.1: Get-Servise"),
        ("winrm.cmd quickconfig", "unknown in 5.1: winrm.cmd"),
        ("wmic.exe os get caption", "unknown in 5.1: wmic.exe"),
        ("Get-WmiObject -Class Win32_Service", "unknown in 7.0: Get-WmiObject"),
        ("Start-Process -FilePath cscript.exe", "program: cscript.exe"),
        ("Set-Service -Name WinRM -State Running", "parameter in 5.1: Set-Service -State"),
        ("Set-Service -Name WinRM -Status Stopped -Force", "parameter in 5.1: Set-Service -Force"),
        ("Import-Module -Name x -SkipEdition", "parameter in 7.0: Import-Module -SkipEdition"),
        ("Get-Content -LiteralPath x -Raw 'y'", "type in 5.1: Get-Content -Raw takes no argument"),
        ("Set-Service -Name -Status Running", "type in 5.1: Set-Service -Name needs an argument"),
        ("New-SelfSignedCertificate -KeyLength '3072'", "-KeyLength needs a number"),
        ("Set-Item -LiteralPath @{ a = 1 }", "-LiteralPath takes no table"),
        (
            "$a = @{ Name = 'x'; Group = 'y' }\nNew-LocalUser @a",
            "parameter in 5.1: New-LocalUser -Group",
        ),
        ("New-LocalUser -Name x -Password 'secret'", "password: New-LocalUser"),
        ("$a = @{ Password = 'secret' }\nNew-LocalUser @a", "password: New-LocalUser"),
        ("$password = 'secret'", "password: $password"),
        ("ConvertTo-SecureString -String x -AsPlainText", "unknown in 5.1: ConvertTo-SecureString"),
        ("Get-NetFirewallRule -Name x", "error: Get-NetFirewallRule"),
        ("Get-NetFirewallRule -ErrorAction Ignore", "error: Get-NetFirewallRule"),
        ("New-LocalUser -Name x", "error: New-LocalUser"),
        ("Get-Item -Path C:\\a[1]", "wildcards: Get-Item"),
        ("Write-Output 'est\u00e1'", "not ASCII"),
    ],
)
def test_what_is_wrong_is_found(broken, words):
    assert [problem for problem in problems(broken) if words in problem], problems(broken)


def test_the_extract_has_what_the_script_calls_and_no_more():
    called = powershell_profile.called(SCRIPT.read_text())
    assert set(COMMANDS["5.1"]) == called
    assert called - set(COMMANDS["7.0"]) == {"New-SelfSignedCertificate"}  # of PKI, taken from 5.1


def test_what_only_7_has_is_called_in_7_alone(root):
    [call] = [command for name, command in powershell.commands(root) if name in ONLY_7]
    [inside] = [n for n in of(root, "if_statement") if call in powershell.walk(n)]
    assert "$PSVersionTable.PSEdition -eq 'Core' -and $IsWindows" in text(inside)


def test_every_setting_can_be_read_set_and_recorded(settings):
    assert len(settings) == 26
    assert all({"Name", "Want", "Get", "Set"} <= set(setting) for setting in settings)
    names = [text(setting["Name"]) for setting in settings]
    assert len(set(names)) == len(names)  # the record of what was before has them as keys


def changes(root: Node) -> set[str]:
    """Return the functions of the script that change something, themselves or by what they call."""
    own = functions(root)
    calls = {
        name: {called for called, _ in powershell.commands(body)} for name, body in own.items()
    }
    found = {
        name
        for name, called in calls.items()
        if any(c.startswith(CHANGING) for c in called - set(own))
    }
    while more := {name for name, called in calls.items() if called & found} - found:
        found |= more
    return found


def test_nothing_is_changed_but_what_is_asked_for_and_recorded(root):
    """Set-Setting asks (-WhatIf), records and calls what is below Set; only that may change things.

    Besides: secedit's export into files of the script's own, the certificate's file where it is
    missing, and the removal of the script's own folder, which asks by itself.
    """
    own = functions(root)
    free = {
        "Get-AllSettings", "Set-Setting", "Invoke-All", "Use-Temporary", "Test-LogonDenied",
        "Invoke-SecEdit", "Get-DeniedLogon", "Show-Result",
    }  # fmt: skip
    inside = [value for n in of(root, "hash_literal_expression")
              for key, value in entries(n).items() if key == "Set"]  # fmt: skip
    inside += [value for name, value in assigned(root).items() if name.startswith("$write")]
    changing_ones = changes(root)
    inside += [own[name] for name in changing_ones - {"Get-AllSettings"}]
    allowed = {(n.start_byte, n.end_byte) for part in inside for n in of(part, "command")}
    changing = [
        text(command) for name, command in powershell.commands(root)
        if (command.start_byte, command.end_byte) not in allowed
        and (name.startswith(CHANGING) or name in changing_ones - free)
    ]  # fmt: skip
    assert changing == [
        "Set-StrictMode -Version 1.0",
        "Remove-Item -LiteralPath $own -Recurse -Force",
    ]
    assert "WhatIf" in COMMANDS["5.1"]["Remove-Item"]["parameters"]
    assert "ShouldProcess" in text(own["Set-Setting"])
    assert changing_ones - free == {
        "Protect-Folder", "Save-Certificate", "Save-Record", "Set-Account", "Set-FolderAccess",
        "Set-Listener", "Set-LogonDenied", "Set-LongPaths", "Set-OwnCertificate", "Set-Rule",
        "Set-WinRMValue", "Set-AccountKey", "Set-DefaultShell", "Set-SshServer",
    }  # fmt: skip
    callers = {name for name, body in own.items() for called, _ in powershell.commands(body)
               if called in ("Set-Setting", "Save-Record")}  # fmt: skip
    assert callers == {"Invoke-All", "Set-Setting"}


def test_each_way_in_leaves_the_other_alone(root, settings):
    """Without -PublicKey nothing of sshd is touched, with it nothing of WinRM."""
    over = {text(s["Name"]): text(s["Over"]).strip("'") for s in settings if "Over" in s}
    named = {name: "SSH" for name in over if re.search("ssh|SSH|key of|own rule", name)}
    assert over == dict.fromkeys(over, "WinRM") | named
    assert list(over.values()).count("SSH") == 8
    for setting in settings:
        parts = " ".join(text(setting[part]) for part in ("Want", "Get", "Set"))
        if text(setting["Name"]) not in over:
            assert not re.search(r"WinRM|Ssh|sshd", parts), text(setting["Name"])
    source = SCRIPT.read_text()
    assert "Where-Object { $Undo -or -not $_.Over -or $_.Over -eq $over }" in source


@pytest.fixture(scope="module")
def key_form() -> re.Pattern[str]:
    """The form that -PublicKey must have; .NET and Python read this one alike."""
    [form] = re.findall(r"\$PublicKey -cnotmatch '([^']+)'", SCRIPT.read_text())
    return re.compile(form.replace(r"\z", r"\Z"))


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("ssh-ed25519 " + "A" * 68 + " ansible@box", True),
        ("ssh-rsa " + "A" * 370 + "==", True),
        ("sk-ssh-ed25519@openssh.com " + "A" * 80, True),
        ("/home/me/.ssh/id.pub", False),
        ("ssh-ed25519 " + "A" * 68 + "\nssh-ed25519 " + "B" * 68, False),
        ("ssh-ed25519 " + "A" * 68 + "\n", False),
        ('command="x" ssh-ed25519 ' + "A" * 68, False),
        ("ssh-ed25519 " + "A" * 68 + " a; Match all", False),
    ],
)
def test_a_public_key_is_one_line_without_options(key_form, key, fits):
    assert bool(key_form.search(key)) == fits


def test_the_block_of_sshd_config_ends_for_everybody_else(settings):
    """What somebody writes below it must not be for the account alone."""
    [block] = [s for s in settings if text(s["Name"]).startswith('"sshd_config')]
    assert text(block["Want"]).endswith("Match all'")
    assert "AuthorizedKeysFile __PROGRAMDATA__/ssh/${User}_authorized_keys" in text(block["Want"])


def test_a_stopped_winrm_is_never_asked(root):
    """Each function that uses the drive WSMan: or its cmdlets looks first at the service."""
    for name, body in functions(root).items():
        if name != "Get-AllSettings" and ("WSMan:" in text(body) or "WSManInstance" in text(body)):
            assert "Assert-WinRM" in text(body) or "Get-Listener" in text(body), name
    uses = [text(n) for n in of(functions(root)["Get-AllSettings"], "command")]
    assert not [use for use in uses if "WSMan" in use]


def test_what_was_before_outlives_a_failed_undo(root):
    """Invoke-All throws where one setting failed; the record goes after it, and nowhere else."""
    ifs = [text(n) for n in of(functions(root)["Invoke-All"], "if_statement")]
    assert any(part.startswith("if ($failed)") and "throw" in part for part in ifs)
    source = SCRIPT.read_text()
    assert source.count("Remove-Item -LiteralPath $own") == 1
    assert source.index("Invoke-All ($start + $back)") < source.index(
        "Remove-Item -LiteralPath $own"
    )


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
