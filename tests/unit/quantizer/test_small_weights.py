"""Small weights that are unpacked: FP16 where the graph file has them, FP32 where it has not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import models
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelops.model.weights import Constant
from modelops.quantizer.quantize import quantize
from modelops.quantizer.recipe import Recipe
from modelops.quantizer.unpacking import FEW_HOLES, HOLE, MOST_IN_HALF, SMALL_BYTES, Unpacking
from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT
SMALL, MANY = (48, 48, 3, 3), 12  # 83 kB each; a hole each is more than nobody sees


@pytest.fixture(autouse=True, scope="module")
def memory_has_no_say() -> None:
    """Here it has."""


def model(path: Path, external: bool, products: int = 0, factor: float = 1.0) -> Path:
    """Convs over images, one behind the other, and products of 700 x 700 beside them."""
    weights = {f"c{i}": factor * models.random_weight(*SMALL, seed=i) for i in range(MANY)}
    weights |= {f"m{i}": models.random_weight(700, 700, seed=99 + i) for i in range(products)}
    nodes = [
        helper.make_node("Conv", [f"y{i}" if i else "x", f"c{i}"], [f"y{i + 1}"], f"conv{i}",
                         pads=[1, 1, 1, 1])
        for i in range(MANY)
    ]  # fmt: skip
    outputs = {f"y{MANY}": (FLOAT, None)}
    for i in range(products):
        nodes.append(helper.make_node("MatMul", ["z", f"m{i}"], [f"p{i}"], name=f"mm{i}"))
        outputs[f"p{i}"] = (FLOAT, None)
    inputs = {"x": (FLOAT, [1, 48, 5, 5])} | ({"z": (FLOAT, [2, 700])} if products else {})
    return models.save(path, nodes, weights, inputs, outputs, external=external)


def made(src: Path, **recipe) -> list[dict]:
    result = quantize(src, src.with_name("out.onnx"), Recipe(**recipe), force=True)
    return [d for d in result["manifest"]["nodes"] if d["op"] == "Conv"]


def forms(src: Path, **recipe) -> Counter:
    return Counter(d["form"] for d in made(src, **recipe))


def test_in_the_graph_file_some_are_fp16_and_the_reason_says_why(tmp_path):
    src = model(tmp_path / "m.onnx", external=False)
    found = made(src)
    most = int(MOST_IN_HALF * MANY)
    assert Counter(d["form"] for d in found) == {"weight_fp16": most, "weight_int8": MANY - most}
    assert all("less memory" in d["reason"] for d in found if d["form"] == "weight_fp16")
    assert forms(src, prefer="size") == {"weight_int8": MANY}
    first = made(src)[0]["node"]
    assert made(src, forms={first: "fp32"})[0]["form"] == "fp32"


def test_in_a_data_file_they_stay_fp32(tmp_path):
    src = model(tmp_path / "m.onnx", external=True)
    assert forms(src) == {"fp32": MANY}
    assert all("prefer: size" in d["reason"] for d in made(src))
    assert forms(src, prefer="size") == {"weight_int8": MANY}


@pytest.mark.parametrize("external", [False, True])
def test_what_products_save_is_theirs(tmp_path, external):
    src = model(tmp_path / "m.onnx", external, products=2)
    assert forms(src) == {"weight_int8": MANY}


def test_what_fp16_cannot_hold_stays_int8(tmp_path):
    src = model(tmp_path / "m.onnx", external=False, factor=1e-6)
    assert forms(src) == {"weight_int8": MANY}


@given(st.lists(st.integers(1024, SMALL_BYTES // 2), max_size=30), st.integers(0, 10**6))
def test_the_smallest_first_until_nobody_sees_the_holes_or_the_files_grow(sizes, saved):
    unpacking, values = Unpacking(Path("m.onnx")), {}
    for number, size in enumerate(sizes):
        dims = (2, size // 2)
        tensor = TensorProto(name=f"w{number}", data_type=FLOAT, dims=dims)
        unpacking.unpacks(Constant(f"/w{number}", tensor, dims))
        values[f"/w{number}"] = 2 * (size // 2)
    side = Constant("/saves", TensorProto(name="s", data_type=FLOAT), (1, saved))
    unpacking.stays(side)
    small = {key for key, n in values.items() if 4 * n < SMALL_BYTES}
    found = unpacking.too_small()
    rest = [values[key] for key in small - found]
    assert found <= small
    assert sum(values[key] for key in found) <= MOST_IN_HALF * sum(values.values())
    assert not found or not rest or max(values[key] for key in found) <= min(rest)
    saving = 3 * saved - saved // 4
    left = HOLE * sum(rest) - saving
    room = MOST_IN_HALF * sum(values.values()) - sum(values[key] for key in found)
    assert left <= (0 if found else FEW_HOLES) or not rest or min(rest) > room
    assert not found or HOLE * sum(values[key] for key in small) - saving > FEW_HOLES
