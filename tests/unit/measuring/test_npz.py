"""Arrays that claim more than they have, or are packed a thousandfold, are not read."""

from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest
from modelops.base.errors import ModelOpsError
from modelops.measuring import golden, inputs_file, npz, session_inputs


def claims(shape: str, kind: str = "<f4") -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(4, "f4"))
    said = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text = content.getvalue()
    return text[:10] + said.encode().ljust(text.index(b"\n") - 10) + text[text.index(b"\n") :]


LIES = {
    "claim": ("(2000000000000,)",),
    "negative": ("(-1, -4)",),
    "wide": ("(4,)", "<U2000000000"),
    "nested": ("((4,),)",),
}


def bomb(path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        np.savez(path.with_name("true.npz"), x=np.zeros(1))
        path.symlink_to("true.npz")
    elif kind == "sparse":
        with path.open("wb") as handle:
            handle.truncate(8 << 30)
    elif kind == "packed":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("x.npy", "w", force_zip64=True) as entry,
        ):
            entry.write(claims(f"({(300 << 20) // 4},)")[:-16])
            for _ in range(300):
                entry.write(bytes(1 << 20))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            if kind == "deep meta":
                content = io.BytesIO()
                np.save(content, np.frombuffer(b"[" * 100_000, np.uint8))
                archive.writestr("meta.npy", content.getvalue())
            else:
                archive.writestr("x.npy", claims(*LIES[kind]))


KINDS = ["link", "sparse", "packed", "claim", "negative", "wide", "nested"] + (
    ["fifo"] if hasattr(os, "mkfifo") else []
)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused_before_anything_is_read(tmp_path, kind, monkeypatch):
    path = tmp_path / "x.npz"
    bomb(path, kind)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelOpsError, match="not usable as inputs"):
        inputs_file.samples(path)
    with pytest.raises(ModelOpsError, match="not usable as golden data"):
        golden.compare(tmp_path / "m.onnx", path, golden.Setup())
    with pytest.raises(session_inputs.RequestError, match="not usable"):
        session_inputs.from_file([], str(path))
    assert not golden.fits(path, {})


def test_deep_json_in_golden_data(tmp_path):
    bomb(tmp_path / "x.npz", "deep meta")
    with pytest.raises(ModelOpsError, match="values within values"):
        golden.compare(tmp_path / "m.onnx", tmp_path / "x.npz", golden.Setup())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_is_true_is_read(tmp_path, save):
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.array(["x", "yz"]), "c": np.array(True),
              "meta": np.frombuffer(json.dumps({}).encode(), np.uint8),
              "d": np.zeros((0, 3), "f2")}  # fmt: skip
    save(tmp_path / "x.npz", **arrays)
    found = npz.arrays(tmp_path / "x.npz")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert npz.arrays(tmp_path / "x.npz", ["a"]).keys() == {"a"}
