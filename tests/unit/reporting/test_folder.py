"""The folder of reports: what is written, and what is kept of an earlier run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from modelops.base.errors import ModelOpsError
from modelops.execution import without_ansible
from modelops.reporting import gather
from report_documents import TEMPLATES, document, facts

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "roles/report/files/report.schema.json").read_text("utf-8"))
MODULE = without_ansible.load("release_report")
FILES = {"report.json", "report.md", "report.html", "junit.xml"}


def call(root, report, check_mode=False):
    options = {"folder": str(root), "report": report, "templates": str(TEMPLATES)}
    return MODULE.run(options, check_mode)


def kept(root, report):
    return json.loads((root / report["release"] / "report.json").read_text("utf-8"))


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_run_writes_all_forms_for_this_account_and_its_group_alone(tmp_path):
    report = document()
    written = call(tmp_path, report)
    assert written["changed"] and written["text"].startswith(f"release {report['release']}: ")
    found = tmp_path / report["release"]
    assert {path.name for path in found.iterdir()} == FILES and (tmp_path / "index.html").is_file()
    assert {path.stat().st_mode & 0o777 for path in contents(tmp_path)} == {0o640}
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(kept(tmp_path, report), SCHEMA)


def test_the_schema_refuses_what_is_no_report():
    for wrong in ({"release": "../x"}, {"verdict": "fine"}, {"figures": {"t": {}}}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document() | wrong, SCHEMA)


def test_a_second_run_with_the_same_figures_writes_nothing(tmp_path):
    call(tmp_path, document())
    again = call(tmp_path, document())
    assert not again["changed"] and again["diff"] == []


def test_check_mode_says_what_it_would_write_and_writes_nothing(tmp_path):
    said = call(tmp_path / "reports", document(), check_mode=True)
    assert said["changed"] and len(said["diff"]) == 5 and not (tmp_path / "reports").exists()
    (shown,) = [one for one in said["diff"] if one["after_header"].endswith("report.md")]
    assert shown["before"] == "" and shown["after"].startswith("# Release ")


def test_what_only_the_run_that_released_saw_is_kept(tmp_path):
    report = document()
    call(tmp_path, report)
    builder, (target,) = facts()
    # The next run finds all done: nothing is sent, restarted or changed.
    for fact in ("__transfer_sent", "__sarai_service_health"):
        del target[fact]
    for host in (builder, target):
        for result in host.values():
            if isinstance(result, dict) and "changed" in result:
                result["changed"] = False
    target["__transfer_state"]["state"]["active"] = report["release"]
    builder["__quantize_result"]["form_sizes"] = {}
    later = gather.report(builder, [target], [], report["controller"])
    assert later["timeline"] == [] and later["transfers"] == later["host_memory"] == {}
    call(tmp_path, later)
    for name in ("timeline", "transfers", "host_memory", "freed", "form_sizes"):
        assert kept(tmp_path, report)[name] == report[name], name


def test_a_run_that_only_measured_does_not_replace_the_report_of_a_release(tmp_path):
    report = document()
    call(tmp_path, report)
    before = contents(tmp_path)
    said = call(tmp_path, report | {"outcomes": {}, "verdict": "fail"})
    assert not said["changed"] and contents(tmp_path) == before
    first = document(digit="0b") | {"outcomes": {}}
    assert call(tmp_path, first)["changed"]


def test_in_check_mode_what_an_earlier_run_saw_stands(tmp_path):
    report = document()
    call(tmp_path, report)
    seen = report | {
        "outcomes": {"target": "would be"},
        "notes": {},
        "timeline": [],
        "checklist": [],
    }
    assert not call(tmp_path, seen, check_mode=True)["changed"]


def test_a_file_that_somebody_opened_to_all_is_closed_again(tmp_path):
    report = document()
    call(tmp_path, report)
    path = tmp_path / report["release"] / "report.html"
    path.chmod(0o644)
    assert call(tmp_path, report)["changed"] and path.stat().st_mode & 0o777 == 0o640


def test_a_report_that_cannot_be_read_is_written_anew_and_others_are_left_out(tmp_path):
    report = document()
    found = tmp_path / report["release"]
    found.mkdir()
    (found / "report.json").write_text("{")
    old = tmp_path / ("0" * 16)
    old.mkdir()
    (old / "report.json").write_text('{"release": "of a version before", "figures": {}}')
    (tmp_path / "known").mkdir()
    assert call(tmp_path, report)["changed"]
    assert kept(tmp_path, report)["release"] == report["release"]
    assert "of a version before" not in (tmp_path / "index.html").read_text("utf-8")


@pytest.mark.parametrize("release", ["../../victim", "0" * 16 + "\n", "x"])
def test_no_folder_of_what_is_no_id(tmp_path, release):
    with pytest.raises(ModelOpsError, match="release id"):
        call(tmp_path, document() | {"release": release})
    assert contents(tmp_path) == {}


def test_a_run_that_knew_no_release_writes_nothing(tmp_path):
    bare = gather.report({"inventory_hostname": "b"}, [{"inventory_hostname": "t"}], [])
    assert not call(tmp_path, bare)["changed"] and contents(tmp_path) == {}


def test_junit_has_a_suite_a_host_and_a_case_a_gate(tmp_path):
    report = document("a\x00\ufffe<b>&")
    call(tmp_path, report)
    root = ElementTree.parse(tmp_path / report["release"] / "junit.xml").getroot()
    assert [suite.get("name") for suite in root] == ["builder", "target"]
    for suite in root:
        cases = list(suite)
        assert len(cases) == int(suite.get("tests")) == len(report["tables"][suite.get("name")])
        assert suite.get("failures") == "0" and suite.get("skipped") == "2"
        assert "too noisy" in suite.find("testcase[3]/skipped").get("message")


def test_a_required_gate_that_did_not_pass_is_a_failure_of_junit(tmp_path):
    report = document()
    judged = report["figures"]["target"]["judged"][0]
    judged["verdict"] = "inconclusive"
    call(tmp_path, report)
    root = ElementTree.parse(tmp_path / report["release"] / "junit.xml").getroot()
    assert root.find("testsuite[2]").get("failures") == "1"
