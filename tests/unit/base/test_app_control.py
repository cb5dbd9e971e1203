"""A file that Windows refuses by a policy is told by the number, in whatever language it speaks."""

from __future__ import annotations

import ctypes
import sys

import pytest
from modelops.base import app_control
from modelops.base.errors import ModelOpsError
from modelops.execution import module_result

from plugin_utils import boot

FILE = f"C:/venv/onnx{app_control.NATIVE[0]}"
SPANISH = "Una directiva de Control de aplicaciones bloqueó este archivo."


def refused(code: int, file: str | None = None) -> OSError:
    """Return the OSError that Windows' Python raises: with a number of Windows in `winerror`."""
    error = OSError(22, SPANISH, file)
    error.winerror = code
    return error


@pytest.fixture
def windows(monkeypatch):
    """Windows refuses to load a file with this number; a list of the files it was asked for."""
    asked: list[str] = []

    def refuse_with(code):
        def load(file):
            asked.append(file)
            if code:
                raise refused(code)

        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(sys, "platform", "win32")
        return asked

    return refuse_with


def unloaded(name: str = "onnx") -> ImportError:
    """Return what an import raises whose machine code did not load: a text, and no number."""
    return ImportError(f"DLL load failed while importing {name}: {SPANISH}", name=name, path=FILE)


@pytest.mark.parametrize("code", [4551, 1260, 4559])
def test_a_blocked_import_is_told_by_asking_windows_once_more(windows, code):
    asked = windows(code)
    assert app_control.blocked(unloaded()) == f"{FILE} (WinError {code})"
    assert asked == [FILE]


@pytest.mark.parametrize("code", [126, 1455, 0])
def test_another_reason_is_no_policy(windows, code):
    """126: a DLL is missing. 1455: the page file is too small."""
    windows(code)
    assert app_control.blocked(unloaded()) == ""


def test_it_is_found_behind_the_errors_that_followed(windows):
    windows(4551)
    try:
        try:
            raise unloaded()
        except ImportError:
            raise ModelOpsError("this Python lacks a package", remedy="Install it.") from None
    except ModelOpsError as error:
        assert FILE in app_control.blocked(error)


def test_elsewhere_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda file: pytest.fail("asked"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert app_control.blocked(unloaded()) == ""
    assert app_control.blocked(ModuleNotFoundError("No module named 'onnx'")) == ""


@pytest.mark.parametrize("kind", ["program", "package"])
def test_a_module_says_it_in_place_of_memory_or_a_lacking_package(windows, kind):
    windows(4551)

    def run(params, check):
        if kind == "program":
            raise refused(4551, "C:/venv/python.exe")
        try:
            raise unloaded()
        except ImportError as error:
            raise ModelOpsError(f"lacks a package ({error})", remedy="Install it.") from None

    result = module_result.run_guarded(run, {}, False)
    assert result["reason"] == app_control.BLOCKED
    assert result["msg"].startswith("Windows' application control blocks C:/venv/")
    assert "Smart App Control settings" in result["msg"]


def test_what_brings_the_code_says_it_too(windows):
    windows(4551)
    assert "application control blocks" in boot.explained(unloaded("_bz2"))
    windows(1455)
    assert boot.SHORT in boot.explained(unloaded("_bz2"))
