"""splice: edits go in exactly where they were planned, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.config import byte_edits

PACKAGE = Path(byte_edits.__file__).parents[1]


@st.composite
def files_with_edits(draw: st.DrawFn) -> tuple[bytes, list[byte_edits.Edit], bytes]:
    """A file, edits of it, and what must come out."""
    text = st.text(st.sampled_from("ab\n\r é😀\ufeff"), max_size=4)
    content, result, edits = b"", b"", []
    for kept, old, new in draw(st.lists(st.tuples(text, text, text), max_size=6)):
        edits.append({"offset": len(content + kept.encode()), "old": old, "new": new})
        content += (kept + old).encode()
        result += (kept + new).encode()
    tail = draw(st.binary(max_size=5))
    return content + tail, edits, result + tail


@given(files_with_edits())
def test_apply_and_invert(case: tuple[bytes, list[byte_edits.Edit], bytes]) -> None:
    content, edits, result = case
    assert byte_edits.apply(content, edits) == result
    inverse = json.loads(json.dumps(byte_edits.invert(edits)))
    assert byte_edits.apply(result, inverse) == content
    assert byte_edits.invert(inverse) == edits


@given(files_with_edits(), st.data())
def test_a_changed_old_text_is_refused(
    case: tuple[bytes, list[byte_edits.Edit], bytes], data: st.DataObject
) -> None:
    content, edits, _ = case
    covered = [
        place
        for edit in edits
        for place in range(edit["offset"], edit["offset"] + len(edit["old"].encode()))
    ]
    if not covered:
        return
    place = data.draw(st.sampled_from(covered))
    changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    with pytest.raises(ModelOpsError, match=r"f\.yaml: the file is not the one.*byte [0-9]+"):
        byte_edits.apply(changed, edits, "f.yaml")


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ([{"offset": 3, "old": "", "new": "x"}], "not the one that was read"),
        ([{"offset": 1, "old": "bc", "new": "x"}], "not the one that was read"),
        ([{"offset": 0, "old": "ab", "new": ""}, {"offset": 1, "old": "b", "new": ""}], "overlaps"),
        ([{"offset": 1, "old": "b", "new": ""}, {"offset": 0, "old": "a", "new": ""}], "order"),
        ([{"offset": -1, "old": "b", "new": ""}], "offset"),
        ([{"offset": True, "old": "b", "new": ""}], "offset"),
        ([{"offset": "0", "old": "a", "new": ""}], "offset"),
        ([{"offset": 0, "old": "a"}], "old and new"),
        ([{"offset": 0, "old": "a", "new": 1}], "old and new"),
        ([{"offset": 0, "old": "a", "new": "\ud800"}], "old and new"),
        (["x"], "old and new"),
    ],
)
def test_unusable_edits_are_refused(edits: list[Any], said: str) -> None:
    with pytest.raises(ModelOpsError, match=said) as caught:
        byte_edits.apply(b"ab", edits, "f.yaml")
    assert caught.value.where == "f.yaml"
    assert caught.value.remedy


def test_standard_library_only() -> None:
    """The target's Python has no site-packages: -S leaves them out, -I everything else."""
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
        "from modelops.config import byte_edits;"
        " print(byte_edits.apply(b'a: 1', [{'offset': 3, 'old': '1', 'new': '2'}]).decode())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("a: 2" + "\n", "")
