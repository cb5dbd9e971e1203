"""A configuration that would keep the controller for minutes is refused at once."""

from __future__ import annotations

import pytest
import yaml
from modelops.base.errors import ModelOpsError
from modelops.config.yaml_document import Document


def test_a_document_that_is_too_large(monkeypatch):
    monkeypatch.setattr(yaml, "scan", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelOpsError, match="may have"):
        Document(b"a: 1\n" * 1_000_000, "sarai.yaml")


def test_deep_nesting():
    with pytest.raises(ModelOpsError, match="nested too deeply"):
        Document(b"a: " + b"[" * 100_000, "sarai.yaml")
