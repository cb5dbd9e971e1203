"""The figures of a long job, their line and their file."""

from __future__ import annotations

import json
import os

from modelops.base import progress


def test_the_rate_is_that_of_the_phase(monkeypatch):
    clock = iter([100.0, 101.0, 103.0, 110.0, 114.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    meter = progress.Meter()
    assert meter.figures("one", 0, 400)["rate"] is None
    known = meter.figures("one", 100, 400)
    assert (known["rate"], known["left_s"], known["elapsed_s"]) == (50, 6, 3)
    assert meter.figures("two", 0, 80)["rate"] is None
    assert meter.figures("two", 40, 80)["rate"] == 10


def test_a_line_says_what_is_known():
    figures = {"phase": "hash", "done": 0, "total": 0, "rate": None, "left_s": None,
               "elapsed_s": 0.0, "peak_rss_bytes": None}  # fmt: skip
    assert progress.line(figures) == "hash"
    figures |= {"done": 500_000, "total": 2_000_000, "rate": 1e6, "left_s": 1.5}
    assert progress.line(figures) == "hash: 500 kB of 2 MB (25 %), 1 MB/s, 1.5 s left"


def test_the_file_is_there_for_the_time_of_the_job(tmp_path):
    path = tmp_path / "progress.json"
    with progress.kept(path) as file:
        file("one", 1, 2)
        file("two", 1, 2)  # a new phase is written at once
        said = json.loads(path.read_text())
        assert (said["phase"], said["pid"]) == ("two", os.getpid())
    assert list(tmp_path.iterdir()) == []
    with progress.kept(None) as nothing, progress.told(None) as neither:
        assert nothing is None and neither is None


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path):
    with progress.kept(tmp_path / "absent/progress.json") as file:
        file("one", 1, 2)
