"""What looks like a secret is hidden; other words stay."""

from __future__ import annotations

import pytest
from modelops.base.hidden import MARK, masked
from modelops.reporting import gather
from modelops.target import units
from modelops.target.change import changed_lines

CANARY = "canary-5f3a9c"


@pytest.mark.parametrize("text", [
    "token={}", "api_token: {}", "HF_TOKEN='{}'", '"password": "{}"', "passwd={},x",
    "db.secret = {}",
    "Authorization: Bearer {}", "authorization: Basic {}", "sent Bearer {} to it", "API-KEY: {}",
    "--token {}", "http://noel:{}@host/x",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    "ghp_{}0000", "Password: 'a b {}'", "AWS_ACCESS_KEY_ID={}",
])  # fmt: skip
def test_a_secret(text):
    said = masked(f"before {text.format(CANARY)} ")
    assert CANARY not in said and MARK in said and said.startswith("before ")


@pytest.mark.parametrize("text", ["equal tokens, worst", "the key is wrong", "model_path: m.onnx"])
def test_no_secret(text):
    assert masked(text) == text


def test_a_long_text_takes_no_long_time():
    masked("a-" * 200_000 + "://" * 10_000)


def test_a_diff_shows_the_changed_lines_alone():
    before = f"api: {CANARY}\nmodel_path: a.onnx\nother: {CANARY}\n".encode()
    shown = changed_lines(before, before.replace(b"a.onnx", b"b.onnx"))
    assert shown == {"before": "model_path: a.onnx\n", "after": "model_path: b.onnx\n"}
    flow = f"omni: {{token: {CANARY}, model_path: a.onnx}}\n".encode()
    assert CANARY not in str(changed_lines(flow, flow.replace(b"a.onnx", b"b.onnx")))


def test_a_journal(monkeypatch):
    class Done:
        returncode, stderr, stdout = 0, "", f"INFO token={CANARY}\nit died"

    monkeypatch.setattr(units, "run", lambda *_, **__: Done)
    said = units.Systemd("s").told("1")
    assert CANARY not in said and "it died" in said


def test_a_report():
    host = {
        "inventory_hostname": "h",
        "__release_outcome": f"reverted: token={CANARY}" + "x" * 99999,
    }
    said = gather.report({"inventory_hostname": "b"}, [host], [])["outcomes"]["h"]
    assert CANARY not in said and len(said) <= gather.LONGEST_OUTCOME
