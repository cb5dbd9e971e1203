"""What windows/setup.ps1 takes for a name, a folder and a key, and what its undo may meet."""

from __future__ import annotations

import re
from pathlib import Path

import powershell
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (ROOT / "windows/setup.ps1").read_text()
FUNCTIONS = powershell.functions(powershell.parse(SOURCE))


def form(variable: str) -> re.Pattern[str]:
    """The form that a parameter must have; -notmatch does not mind the case of letters."""
    [found] = re.findall(rf"\${variable} -notmatch '([^']+)'", SOURCE)
    return re.compile(found.replace(r"\z", r"\Z"), re.IGNORECASE | re.ASCII)


@pytest.mark.parametrize(
    ("user", "fits"),
    [
        ("sarai-builder", True),
        ("Noel.2", True),
        ("a" * 20, True),
        ("a" * 21, False),
        ("josé", False),  # sshd reads its file as UTF-8, and the script writes it byte by byte
        ("two words", False),
        ("a\n", False),
        ("a;b", False),
        (".a", False),
    ],
)
def test_the_name_of_an_account_is_one_that_every_file_spells_alike(user, fits):
    assert bool(form("User").search(user)) == fits


@pytest.mark.parametrize(
    ("folder", "fits"),
    [
        (r"C:\SARAi_v2", True),
        ("d:/models", True),
        (r"\\nas\models", True),
        ("C:models", False),  # of the drive's own current folder
        (r"\models", False),
        ("models", False),
    ],
)
def test_a_folder_depends_on_nothing(folder, fits):
    assert bool(form("Folder").search(folder)) == fits


def test_a_word_that_has_no_name_is_none_for_another_parameter():
    """By `powershell -File`, the second of two addresses would have been the next parameter."""
    assert "PositionalBinding = $false" in SOURCE


def test_an_undo_that_is_run_again_asks_nothing_of_a_server_that_is_gone():
    """The first one removed the server and failed elsewhere, as where the profile is in use."""
    [service] = re.findall(r"\$readService = \{(.*?)\n\}", SOURCE, re.DOTALL)
    assert "$Undo -and -not (Get-Service" in service and "return $before[$It.Name]" in service
    [rule] = re.findall(r"Name = \"firewall: the server's own rule\".*?\n    \}", SOURCE, re.DOTALL)
    assert "$Undo -and -not (Get-SshRule)) { $before[$It.Name] }" in rule
    assert "if (Test-SshServer) { Restart-Service" in powershell.text(FUNCTIONS["Set-SshBlock"])


def test_nothing_is_given_to_an_account_that_is_not_there():
    """Where Windows refused its password, nobody gets what was meant for it."""
    given = re.findall(r"Get-AccountSid -Needed", SOURCE)
    assert len(given) == 4  # WinRM's right, the folder's, the key file's, the logon
    assert "throw" in powershell.text(FUNCTIONS["Get-AccountSid"])


def test_a_file_is_the_old_one_or_the_new_one():
    whole = powershell.text(FUNCTIONS["Write-Whole"])
    assert "[IO.File]::Replace(" in whole
    for name in ("Save-Record", "Set-SshBlock"):
        assert "Write-Whole" in powershell.text(FUNCTIONS[name])


def test_sshd_compares_small_letters():
    """User names in sshd_config are to be in lower case (Win32-OpenSSH wiki, sshd_config)."""
    assert 'Match User $("$User".ToLowerInvariant())' in SOURCE
