"""A configuration that would keep the controller for minutes is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from modelops.base.errors import ModelOpsError
from modelops.config import byte_edits, slurped
from modelops.config.yaml_document import Document

ROOT = Path(__file__).resolve().parents[3]


def test_a_document_that_is_too_large(monkeypatch):
    monkeypatch.setattr(yaml, "scan", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelOpsError, match="may have"):
        Document(b"a: 1\n" * 1_000_000, "sarai.yaml")


def test_a_file_that_was_not_read_for_its_size():
    found = slurped.content({"stat": {"stat": {"exists": True, "size": 5 << 20}}, "slurped": {}})
    with pytest.raises(ModelOpsError, match="may have"):
        Document(found, "sarai.yaml")


def test_the_role_has_the_same_limit():
    said = yaml.safe_load((ROOT / "roles/sarai_config/vars/main.yml").read_text())
    assert said["__sarai_config_largest"] == byte_edits.LARGEST


def test_deep_nesting():
    with pytest.raises(ModelOpsError, match="nested too deeply"):
        Document(b"a: " + b"[" * 100_000, "sarai.yaml")
