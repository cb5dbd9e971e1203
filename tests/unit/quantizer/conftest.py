"""Which form an operator and a shape have is asked apart from what memory makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest
from modelops.quantizer import unpacking


@pytest.fixture(autouse=True, scope="module")
def memory_has_no_say() -> Iterator[None]:
    """Let small models of tests have weights that are unpacked; tests of memory override it."""
    most = unpacking.MADE_UP_BYTES
    with patch.multiple(unpacking, UNSEEN_BYTES=most, FEW_HOLES=most):
        yield
