"""A Windows builder over SSH whose inventory does not say that it runs Windows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Site

UNSAID = {
    "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1,
    "sarai_builder_dir": r"C:\SARAi_v2\models\onnx",
}  # fmt: skip
LINE = "ansible_shell_type: powershell"


@pytest.fixture
def site(fresh: Site, monkeypatch) -> Site:
    inventory: dict[str, Any] = fresh.inventory()
    inventory["all"]["children"]["builder"]["hosts"]["builder"] |= UNSAID
    monkeypatch.setattr(Site, "inventory", lambda _: inventory)
    return fresh


def test_a_run_and_a_look_name_the_line_for_the_inventory(site):
    before = site.tree()
    outcome = site.run("quantize.yml")
    told = " ".join(outcome.output.split())
    assert outcome.rc != 0 and site.tree() == before
    assert f"builder: connection: sarai_builder_dir is {UNSAID['sarai_builder_dir']}" in told
    assert f"(wanted: {LINE})" in told and "nothing listens" not in told
    file = site.folder.parent / "told" / "rows.json"
    assert site.run("playbooks/preflight.yml", preflight_json=str(file)).rc == 2
    (row,) = json.loads(file.read_text())["hosts"]["builder"]
    assert (row["check"], row["level"], row["threshold"]) == ("connection", "problem", LINE)
