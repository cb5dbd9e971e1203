"""What a run asks of root's helper, and what it makes of the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from modelops.base.errors import ModelOpsError
from modelops.execution import without_ansible
from modelops.target import root_helper, units

RELEASE = "3f0a9c1d22b45e67"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 43
SCRIPT = "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w')); {0}"


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Return a function that puts a program in the helper's place, and tells what it was asked."""
    said = tmp_path / "said.json"
    monkeypatch.setattr(root_helper, "SETTINGS", tmp_path)

    def answer(text: str, code: int = 0) -> Path:
        act = f"print({text!r}); print('sudo: a password is required', file=sys.stderr)"
        script = SCRIPT.format(f"{act}; sys.exit({code})")
        monkeypatch.setattr(root_helper, "COMMAND", (sys.executable, "-c", script, str(said)))
        return said

    return answer


def module(**params: Any) -> Any:
    spec = without_ansible.load("root_helper").MODULE["argument_spec"]
    return {name: option.get("default") for name, option in spec.items()} | {"model": "m"} | params


def run(check_mode: bool = False, **params: Any) -> dict[str, Any]:
    return without_ansible.load("root_helper").run(module(**params), check_mode)


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("arm", []), ("disarm", []), ("upload-open", [RELEASE, KEY]), ("upload-close", [RELEASE]),
        ("upload-remove", [RELEASE]),
    ],
)  # fmt: skip
def test_a_verb_and_its_words(helper, verb, more, check_mode):
    said = helper('{"changed": true}')
    assert run(check_mode, verb=verb, release=RELEASE, key=KEY) == {"changed": True}
    assert json.loads(said.read_text()) == ["m", *(["check"] if check_mode else []), verb, *more]


@pytest.mark.parametrize(
    "params",
    [
        {"verb": "upload-close", "release": "../x"}, {"verb": "upload-open", "release": RELEASE},
        {"verb": "upload-open", "release": RELEASE, "key": "x\n" + KEY},
        {"verb": "arm", "model": "-x"},
    ],
)  # fmt: skip
def test_what_it_is_never_asked(helper, params):
    said = helper('{"changed": true}')
    with pytest.raises(ModelOpsError):
        run(**params)
    assert not said.exists()


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("", 1, "a password is required"), ('{"changed": false, "msg": "no unit"}', 1, "no unit"),
        ("welcome", 0, "a password is required"), ("[]", 0, "a password"),
        ('{"changed": 1}', 0, ""),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_says_what_to_do(helper, text, code, told):
    helper(text, code)
    with pytest.raises(ModelOpsError, match="root's helper did not do arm") as error:
        run(verb="arm")
    assert told in error.value.what and "setup_target.yml" in error.value.remedy


def test_without_sudo_nothing_is_done(helper, monkeypatch):
    monkeypatch.setattr(root_helper, "COMMAND", ("/nowhere/sudo",))
    with pytest.raises(ModelOpsError, match="No such file"):
        run(verb="arm")


def test_what_root_knows_is_compared_with_what_a_run_expects(helper, tmp_path):
    said = helper('{"changed": false}')
    expected = {"unit": "sarai", "confirm_s": 60}
    (row,) = run(expected=expected)["findings"]
    assert row["level"] == "problem" and "nothing of m" in row["value"]
    (tmp_path / "m.json").write_text(json.dumps(expected))
    (row,) = run(expected=expected)["findings"]
    assert row["level"] == "ok"
    assert json.loads(said.read_text()) == ["m", "check", "disarm"]
    wrong = run(expected={"unit": "other", "confirm_s": 60, "config": "/x"})["findings"]
    assert [(row["value"], row["threshold"]) for row in wrong] == [
        ('"sarai"', '"other"'), ("null", '"/x"')
    ]  # fmt: skip
    (tmp_path / "m.json").write_text("[")
    assert run(expected=expected)["findings"][0]["level"] == "problem"


def test_a_helper_that_may_not_be_called_is_a_row(helper):
    helper("", 1)
    (row,) = run()["findings"]
    assert row["level"] == "problem" and "-K" in row["remedy"]


def test_a_service_is_restarted_and_read_by_root():
    asked = []

    def root(*words: str, **_: Any) -> dict[str, Any]:
        asked.append(words)
        return {"changed": True, "journal": "it died: password=hunter2"}

    unit = units.Systemd("sarai", root=root)
    unit.restart(1)
    told = unit.told("")
    assert asked == [("restart",), ("journal",)]
    assert "it died" in told and "hunter2" not in told
