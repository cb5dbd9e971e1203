"""Rows of a Windows builder that this system can look at: the judging, and where it is read."""

from __future__ import annotations

import sys
import sysconfig
from types import SimpleNamespace

import pytest
from modelops.preflight import host, windows_host


@pytest.mark.parametrize(("pending", "level"), [([], "ok"), (["key"], "advice")])
def test_a_restart_that_waits_is_advice(pending, level):
    row = windows_host.check_restart(pending)
    assert row["level"] == level and bool(row["remedy"]) == (level == "advice")


@pytest.mark.parametrize(
    ("own", "default", "seconds"), [(0, 1800, 0), (900, 0, 900), (None, 1800, 1800), (None,) * 3]
)
def test_the_sleep_is_read_where_it_was_set_or_by_default(monkeypatch, own, default, seconds):
    known = {"ActivePowerScheme": "a-scheme", "ACSettingIndex": own, "AcSettingIndex": default}
    asked = []

    def value(key, name):
        asked.append(key)
        return known[name]

    monkeypatch.setattr(windows_host, "value", value)
    assert windows_host.sleep_after() == seconds
    assert all("a-scheme" in key for key in asked[1:])


@pytest.mark.parametrize(
    ("seconds", "levels", "text"),
    [(0, ["ok"], "never"), (1800, ["advice"], "after 30 minutes"), (None, [], "")],
)
def test_a_pc_that_sleeps_is_advice(seconds, levels, text):
    rows = windows_host.check_sleep(seconds)
    assert [row["level"] for row in rows] == levels
    assert not rows or rows[0]["value"] == text


@pytest.mark.parametrize(
    ("path", "attributes", "levels"),
    [
        (r"C:\SARAi_v2\m.onnx", 0x20, []),
        (r"C:\Users\noel\OneDrive\m.onnx", 0x20, ["advice"]),
        (r"C:\Users\noel\OneDrive - Casa\SARAi", 0x10, ["advice"]),
        (r"C:\Users\noel\OneDrive\m.onnx", 0x400020, ["problem"]),
        (r"D:\cloud\m.onnx", 0x1020, ["problem"]),
    ],
)
def test_what_a_cloud_keeps_is_told(monkeypatch, path, attributes, levels):
    told = SimpleNamespace(st_file_attributes=attributes)
    monkeypatch.setattr(windows_host.Path, "stat", lambda self: told)
    rows = windows_host.check_cloud([path])
    assert [row["level"] for row in rows] == levels
    assert all(path in row["check"] and row["remedy"] for row in rows)


def test_a_path_that_is_missing_is_another_rows_matter():
    assert windows_host.check_cloud(["/nowhere/m.onnx"]) == []


@pytest.mark.parametrize(
    ("prefix", "level"),
    [
        (r"C:\Program Files\Python312", "ok"),
        (r"C:\Program Files\WindowsApps\PythonSoftwareFoundation.Python.3.12", "problem"),
    ],
)
def test_the_python_of_the_store_does_not_do(monkeypatch, prefix, level):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sysconfig, "get_platform", lambda: "win-amd64")
    monkeypatch.setattr(sys, "base_prefix", prefix)
    row = host.check_python("3.11")
    assert row["level"] == level
    assert ("Store" in row["value"]) == (level == "problem")
