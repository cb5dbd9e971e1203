"""Pages and tables show what a host said, whatever it said, and no path is made of it."""

from __future__ import annotations

import base64
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import example, given
from hypothesis import strategies as st
from modelops.pair import manifest
from modelops.reporting import text as texts

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from filter_plugins.modelops import FilterModule

filters = FilterModule().filters()
ATTACK = "\x1b[2J\u202e<img src=x onerror=y>\n\n# Release 0: pass\n| a | b |\n`x` [c](http://d)"
KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()


def entry(name):
    return {"name": name, "size": 7, "sha256": "0a" * 32}


def listed(**changes):
    files = [entry("m_int8.onnx")]
    made = {"schema": 1, "artifacts": files, "source": [entry("m.onnx")], "nodes": []}
    return made | {"release_id": manifest.release_id(files)} | changes


def report(text, **changes):
    judged = {
        "name": text, "figure": text, "op": "<", "threshold": 1.0, "required": True, "note": text,
        "verdict": "fail", "changed_threshold": False, "promised_threshold": None,
    }  # fmt: skip
    node = {"node": text, "op": text, "form": "fp32", "reason": text}
    builder = {
        "inventory_hostname": "builder",
        "__quantize_manifest": listed(nodes=[node], **changes),
        "__quantize_gate": {"judged": [judged], "notes": [text], "verdict": "fail"},
    }
    target = {"inventory_hostname": "target", "__release_outcome": text}
    return filters["release_report"](builder, [target], [])


def unseen(page):
    return [c for c in page if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]


@given(st.text(max_size=40))
@example(ATTACK)
def test_a_report_has_the_lines_that_it_has_of_any_text(text):
    plain, found = report("x"), report(text)
    page = texts.markdown(found)
    assert not unseen(page) and not unseen(texts.text(found).replace("\t", ""))
    assert page.count("\n") == texts.markdown(plain).count("\n")
    beginnings = [line[:2] for line in page.splitlines() if line.startswith("#")]
    assert beginnings == ["# ", *["##"] * 5]


def test_no_markup_of_a_host_is_left():
    page = texts.markdown(report(ATTACK))
    without_code = re.sub(r"`[^`\n]*`", "", page.replace("\\`", ""))
    assert not re.search(r"(?<!\\)<[A-Za-z/!?]", without_code)
    assert not re.search(r"\](?=\()", without_code)


@pytest.mark.parametrize("release", ["../../victim", "0" * 16 + "\n", "x"])
def test_no_report_and_no_folder_of_what_is_no_id(release):
    with pytest.raises(Exception, match="release id"):
        report("x", release_id=release)
    with pytest.raises(AnsibleFilterError, match="release id"):
        filters["checked_manifest"](listed(release_id=release), "m")


def test_a_release_is_of_this_model():
    assert filters["checked_manifest"](listed(), "m") == listed()
    with pytest.raises(AnsibleFilterError, match=r"no file of other: m_int8\.onnx"):
        filters["checked_manifest"](listed(), "other")


def test_a_host_key_is_one_line_of_one_key():
    assert filters["host_key"](f"{KEY} root@host\n") == KEY
    for text in (f"{KEY}\n* {KEY}\n", f"* {KEY}", "", "ssh-rsa AAAA"):
        with pytest.raises(AnsibleFilterError, match=r"ssh_host_ed25519_key\.pub"):
            filters["host_key"](text)


@given(st.text(max_size=40))
@example(ATTACK)
def test_tables_have_a_line_for_a_row(text):
    state = {
        "active": text, "confirmed": True, "void": {"0" * 16: text},
        "history": [{"release": text, "event": text, "reason": text}],
    }  # fmt: skip
    asked = {"state": state, "kind": "INT8", "free_bytes": 1, "problems": [text]}
    hosts = [
        {"inventory_hostname": "a", "__status_release": asked},
        {"inventory_hostname": "b", "__status_release": {"failed": True, "msg": text}},
        {"inventory_hostname": "c", "__reach_linux": {"unreachable": True, "msg": text}},
    ]
    page = filters["status_table"](hosts)
    assert not unseen(page) and page.count("\n") == 6  # a header, its line, 3 hosts, 2 notes
    assert not unseen(filters["unreached"](hosts[2:]).replace("\t", ""))
    looked = {"inventory_hostname": "d", "__preflight_builder": {"failed": True, "msg": text}}
    assert not unseen(
        filters["preflight_table"](filters["preflight_findings"]([looked])).replace("\t", "")
    )
