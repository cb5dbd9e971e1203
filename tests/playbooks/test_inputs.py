"""Real inputs from the controller decide, and a wrong file is told before anything moves."""

from __future__ import annotations

import json

import numpy as np
from conftest import MODEL
from modelops.model import declared
from test_single import single  # noqa: F401 - a fixture


def test_real_inputs_all_the_way(single):  # noqa: F811
    (row,) = declared.read(single.models() / MODEL).inputs.items()
    name, kind = row
    wrong, right = single.folder / "wrong.npz", single.folder / "right.npz"
    np.savez(wrong, **{name: np.zeros((1, 2), "float32")})
    refused = single.run("quantize.yml", "--tags preflight", sarai_measure_inputs=str(wrong))
    assert refused.rc != 0 and "is float32 and not" in refused.output, refused.output
    assert not list(single.models().rglob("*_int8*"))

    random = np.random.default_rng(0)
    samples = [random.integers(0, 1023, kind["shape"], kind["dtype"]) for _ in range(3)]
    np.savez(right, **{f"input/{n}/{name}": array for n, array in enumerate(samples)})
    done = single.work(sarai_measure_inputs=str(right))
    assert done.rc == 0, done.output
    (report,) = single.folder.rglob("report.json")
    (notes,) = json.loads(report.read_text())["notes"].values()
    assert "real inputs" in notes
    (kept,) = single.models().glob(".releases/*/*/*.golden.npz")
    with np.load(kept) as found:
        assert np.array_equal(found[f"input/2/{name}"], samples[2])

    again = single.work(sarai_measure_inputs=str(right))
    assert again.rc == 0 and again.changed_tasks() == [], again.output
