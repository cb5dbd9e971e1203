"""The features of a processor, as the kernel tells them."""

from __future__ import annotations

import pytest
from modelops.base import processor
from modelops.preflight import host

EPYC = (
    "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512_vnni sse2\n\nflags\t: avx2"
)
XEON = "model name\t: Intel Xeon\nflags\t\t: avx2 amx_int8 avx_vnni avx512_vnni\n"
OLD = "model name\t: Old\nflags\t\t: sse2 avx avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd40\n"


@pytest.fixture
def told(tmp_path, monkeypatch):
    def tell(text: str | None) -> dict:
        file = tmp_path / "cpuinfo"
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(processor, "CPUINFO", file)
        return processor.cpu()

    return tell


@pytest.mark.parametrize(
    ("text", "features", "level"),
    [
        (EPYC, ["avx2", "avx512_vnni"], "ok"),
        (XEON, ["avx2", "avx_vnni", "avx512_vnni", "amx_int8"], "ok"),
        (ARM, ["asimddp", "i8mm"], "ok"),
        (OLD, ["avx2"], "advice"),
    ],
)
def test_preflight_advises_where_int8_gains_less(told, text, features, level):
    machine = told(text)
    assert machine["features"] == features
    (row,) = host.check_processor(machine)
    assert (row["id"], row["level"]) == ("processor", level)
    assert bool(row["remedy"]) == (level == "advice")
    assert processor.shown(machine).endswith(f"({', '.join(features)})")


@pytest.mark.parametrize("text", [None, "", "Features\n\0: \xff"])
def test_a_system_that_tells_nothing_has_no_row(told, text):
    machine = told(text)
    assert "features" not in machine and machine["model"] and machine["cores"] >= 1
    assert host.check_processor(machine) == []


def test_what_a_processor_lacks_is_of_its_kind():
    assert processor.lacking(["asimddp"]) == ["i8mm"]
    assert processor.lacking(["avx2", "avx512f"]) == ["avx_vnni", "avx512_vnni", "amx_int8"]
