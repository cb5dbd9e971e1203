"""Half transfers and the lock of a run: told, and removed only when nobody goes on with them."""

from __future__ import annotations

import os
import time

import pytest
from modelops.base.errors import ModelOpsError
from modelops.diagnosis import leftovers
from modelops.target import run_lock

ID, OTHER = "0123456789abcdef", "fedcba9876543210"
RUN = {"run": "t" * 32, "owner": "somebody", "process": "p"}


def half(root, release=ID, age_s=0.0):
    folder = root / ".incoming" / release
    folder.mkdir(parents=True)
    (folder / "m_int8.onnx").write_bytes(b"x" * 1000)
    then = time.time() - age_s
    os.utime(folder / "m_int8.onnx", (then, then))
    return folder


def levels(root):
    return {row["id"]: row["level"] for row in leftovers.rows(root, "m")}


def clear(root, *, check_mode=False, token="t" * 32):
    return leftovers.clear(root, "m", token, check_mode=check_mode)


@pytest.fixture
def held(tmp_path):
    """A folder of models whose lock our run holds."""
    run_lock.take(run_lock.place(tmp_path, "m"), RUN)
    return tmp_path


def test_nothing_left_is_nothing_told(tmp_path):
    assert levels(tmp_path) == {"half_transfer": "ok", "lock": "ok"}


def test_a_half_transfer_is_told_with_its_size_and_age(tmp_path):
    folder = half(tmp_path, age_s=2 * 86400)
    assert levels(tmp_path) == {"half_transfer": "advice", "lock": "ok"}
    value = leftovers.rows(tmp_path, "m")[0]["value"]
    assert str(folder) in value and "1 kB" in value and "48 h old" in value


def test_only_what_is_older_than_a_day_is_removed(held):
    old, young = half(held, age_s=86400 * 1.01), half(held, OTHER, age_s=86400 * 0.99)
    assert clear(held, check_mode=True) == [str(old)] and old.is_dir()
    assert clear(held) == [str(old)]
    assert not old.exists() and young.is_dir()
    assert clear(held) == []


def test_what_a_person_put_there_and_links_are_left_alone(held):
    outside = held / "outside"
    outside.mkdir()
    (outside / "his").write_text("his")
    (held / ".incoming").mkdir()
    (held / ".incoming" / "mine").mkdir()
    (held / ".incoming" / ID).symlink_to(outside)
    os.utime(outside / "his", (0, 0))
    assert leftovers.halves(held) == [] and clear(held) == []
    assert (outside / "his").read_text() == "his"


def test_nothing_is_removed_from_under_another_run(held):
    old = half(held, age_s=10 * 86400)
    with pytest.raises(ModelOpsError, match="another run is at work"):
        clear(held, token="other")
    with pytest.raises(ModelOpsError, match="holds no lock"):
        clear(held, token="")
    assert old.is_dir()
    # Its transfer is no leftover then, but whoever asks shall know that a run is at work.
    assert levels(held) == {"half_transfer": "ok", "lock": "advice"}
    run_lock.take(run_lock.place(held, "m"), RUN, ttl_s=-1)
    assert levels(held) == {"half_transfer": "advice", "lock": "advice"}
    assert "its time is up" in leftovers.rows(held, "m")[1]["value"]
