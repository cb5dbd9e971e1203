"""The report's table."""

from __future__ import annotations

from modelops.judging import gates
from modelops.judging import table as report

MANIFEST = {
    "source": [{"size": 8_000}, {"size": 4_299_992_000}],
    "artifacts": [{"size": 8_000}, {"size": 1_099_992_000}],
}
BENCH = {"p50_s": 5.3, "peak_rss_bytes": 4.3e9, "load_s": 44.0}


def table(*judged, promises=()):
    comparison = {
        "judged": gates.judge(
            judged, {"cosine_min": 0.995, "speedup": 2.4, "candidate_load_s": 8.0}
        ),
        "reference": BENCH,
        "candidate": {"p50_s": 2.2, "peak_rss_bytes": 1.2e9, "load_s": 8.0},
    }
    return report.rows(MANIFEST, comparison, promises)


def test_required_promised_and_changed_thresholds():
    rows = table(
        {"name": "cosine_min", "op": ">", "threshold": 0.999, "promised_threshold": 0.98},
        {"name": "speedup", "op": ">=", "threshold": 2.5, "required": False},
        {"name": "candidate_load_s", "op": "<", "threshold": 10, "required": False},
        {"name": "unheard_of", "op": "<", "threshold": 1},
        promises=[{"name": "size_reduction", "op": ">=", "threshold": 0.74, "required": False}],
    )
    assert rows == [
        ("cosine similarity, worst", "", "0.995", "",
         "required > 0.999 (changed from 0.98)", "fail"),
        ("speed against FP32", "5.3 s", "2.2 s", "2.40x", "promised >= 2.50x", "fail"),
        ("load time", "44 s", "8 s", "-81.8 %", "promised < 10 s", "pass"),
        ("unheard_of", "", "not measured", "", "required < 1", "inconclusive: not measured"),
        ("files, reduction", "4.3 GB", "1.1 GB", "74.4 %", "promised >= 74.0 %", "pass"),
    ]  # fmt: skip


def test_text_and_markdown_hold_every_cell():
    rows = table({"name": "cosine_min", "op": ">", "threshold": 0.98})
    header = report.header("FP16")
    assert "FP16" in header and "INT8" not in header
    for written in (report.text(rows, header), report.markdown(rows, header)):
        assert all(cell in written for row in (header, *rows) for cell in row)
    lines = report.text(rows, header).splitlines()
    at = lines[0].index("wanted")  # where the column begins, in every line
    assert lines[2][at:].startswith("required > 0.98") and lines[2][at - 2 : at] == "  "
    assert lines[1][at - 3 : at + 1] == "-  -"


def test_a_comparison_that_was_not_made():
    comparison = {"judged": []}
    promise = {"name": "size_reduction", "op": ">=", "threshold": 0.75}
    assert report.rows(MANIFEST, comparison, [promise])[0][-1] == "fail"


def test_sizes_are_written_as_the_owner_writes_them():
    assert [report.size(v) for v in (12, 7600, 1.1e9)] == ["12 B", "7.6 kB", "1.1 GB"]
    assert [report.seconds(v) for v in (0.0531, 5.3)] == ["53.1 ms", "5.3 s"]


def test_errors_are_told_against_the_scale_of_the_output():
    gate = {"op": "<", "threshold": 0.1}
    judged = gates.judge(
        [{"name": "mse", **gate}, {"name": "mae", **gate}], {"mse": 0.04, "mae": 0.05}
    )
    comparison = {"judged": judged, "reference_rms": 2.0}
    assert [row[1:4] for row in report.rows(MANIFEST, comparison)] == [
        ("RMS 2", "0.04", "1.0 % of its power"),
        ("RMS 2", "0.05", "2.5 % of it"),
    ]
    silent = {**comparison, "reference_rms": 0.0}
    assert report.rows(MANIFEST, silent)[0][1:4] == ("", "0.04", "")
