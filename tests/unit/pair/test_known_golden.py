"""Golden data that the controller knows: by their own SHA-256 and by that of their source."""

from __future__ import annotations

import pytest
from modelops.base.errors import ModelOpsError
from modelops.pair.known_golden import line, of
from target import entry

SOURCE = [entry("m.onnx", b"graph"), entry("m.onnx.data", b"weights")]
GOLDEN = entry("m.golden.npz", b"golden")


def test_what_was_made_is_known_of_its_source_alone():
    later = entry("m.golden.npz", b"made with other samples")
    text = f"{line(GOLDEN, SOURCE)}\n{line(later, SOURCE[::-1])}\n"
    assert of(text, SOURCE) == [GOLDEN["sha256"], later["sha256"]]
    retrained = [SOURCE[0], entry("m.onnx.data", b"other weights")]
    assert of(text, retrained) == [] == of("", SOURCE)
    assert of(f"{GOLDEN['sha256']}\nnonsense\n", SOURCE) == []


@pytest.mark.parametrize("sha256", ["", "x", f"{'0' * 64}\n{'1' * 64}", None, 1])
def test_no_line_is_made_of_anything_else(sha256):
    with pytest.raises(ModelOpsError, match="no entries"):
        line(GOLDEN | {"sha256": sha256}, SOURCE)
    with pytest.raises(ModelOpsError, match="no entries"):
        of("", [SOURCE[0] | {"sha256": sha256}])
