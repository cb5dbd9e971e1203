"""What a graph file says of itself, read without any package."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import models
import onnx
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelops.base.errors import ModelOpsError
from modelops.model import declared
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]


def by_onnx(path: Path) -> declared.Declared:
    """The same, by the onnx package."""
    model = onnx.load(path, load_external_data=False)
    shapes: dict[str, list[declared.Dim] | None] = {}
    for value in model.graph.output:
        kind = value.type.tensor_type
        dims = [
            d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim
        ]
        shapes[value.name] = dims if kind.HasField("shape") else None
    files: dict[str, int] = {}
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
            files[entries["location"]] = max(files.get(entries["location"], 1), end)
    opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    static = [shape for shape in shapes.values() if shape is not None and _is_static(shape)]
    size = sum(4 * math.prod(shape) for shape in static)  # all are FP32
    inputs = {
        value.name: {
            "dtype": onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            "shape": [dim.dim_value for dim in value.type.tensor_type.shape.dim],
        }
        for value in model.graph.input
    }
    return declared.Declared(model.ir_version, opsets, shapes, files, size, inputs=inputs)


def _is_static(shape: list[declared.Dim]) -> bool:
    return all(isinstance(dim, int) for dim in shape)


@pytest.mark.parametrize("external", [True, False])
def test_it_says_what_onnx_says(tmp_path, external):
    path = models.matmul(tmp_path / "m.onnx", external=external)
    found = declared.read(path)
    assert found == by_onnx(path)
    assert (found.ir_version, found.opsets) == (9, {"ai.onnx": 17})
    assert found.outputs == {"y": [4, 24]}
    names = ["m.onnx", "m.onnx.data"] if external else ["m.onnx"]
    assert list(declared.check_files(path, found)) == names


def test_it_reads_a_look_alike(tmp_path):
    path = models.voice(tmp_path / "voice.onnx")
    assert declared.read(path) == by_onnx(path)


shapes = st.none() | st.lists(
    st.none() | st.integers(0, 1 << 40) | st.text("abcß", min_size=1), max_size=4
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ir=st.integers(3, 40),
    opsets=st.dictionaries(st.sampled_from(["", "com.microsoft", "x.y"]), st.integers(1, 300)),
    outputs=st.dictionaries(st.text(max_size=5), shapes, max_size=3),
)
def test_any_declaration(tmp_path, ir, opsets, outputs):
    values = [helper.make_tensor_value_info(name, 1, shape) for name, shape in outputs.items()]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], values)
    imports = [helper.make_opsetid(*pair) for pair in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports or None, ir_version=ir)
    path = tmp_path / "any.onnx"
    path.write_bytes(model.SerializeToString())
    assert declared.read(path) == by_onnx(path)


def test_tensors_of_attributes_and_branches_are_found(tmp_path):
    def external(name: str, length: int) -> TensorProto:
        tensor = numpy_helper.from_array(models.random_weight(2, 2), name)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "w.bin", "offset": "10", "length": str(length)}.items():
            tensor.external_data.add(key=key, value=value)
        return tensor

    inner = helper.make_graph([helper.make_node("Relu", ["v"], ["z"])], "b", [], [],
                              [external("v", 30)])  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["k"], value=external("k", 20)),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    path = tmp_path / "m.onnx"
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    path.write_bytes(model.SerializeToString())
    found = declared.read(path)
    assert found.files == {"w.bin": 40}
    with pytest.raises(ModelOpsError, match="cannot be reached"):
        declared.check_files(path, found)
    (tmp_path / "w.bin").write_bytes(bytes(39))
    with pytest.raises(ModelOpsError, match="truncated: 40 bytes are needed, it has 39"):
        declared.check_files(path, found)
    (tmp_path / "w.bin").write_bytes(bytes(40))
    assert declared.check_files(path, found)["w.bin"] == 40
    (tmp_path / "w.bin").rename(tmp_path / "real")
    (tmp_path / "w.bin").symlink_to("real")
    with pytest.raises(ModelOpsError, match="symbolic link"):
        declared.check_files(path, found)


@pytest.mark.parametrize(
    "location", ["../x", "/etc/passwd", "", "a/../../x", "C:\\x", "\\\\h\\s", "a\\..\\..\\x"]
)
def test_data_outside_of_the_folder_is_refused(tmp_path, location):
    path = models.matmul(tmp_path / "m.onnx")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelOpsError, match="leads out of the model's folder"):
        declared.read(path)


def test_weights_inside_of_the_graph_are_passed_over(tmp_path):
    """A graph of nearly 2 GB: the file is sparse, and nothing of the weights is read."""
    size = (1 << 31) - (1 << 20)
    path = tmp_path / "large.onnx"
    small = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], []), ir_version=10
    )
    raw = b"\x4a" + varint(size)  # raw_data of a tensor
    tensor = b"\x2a" + varint(len(raw) + size) + raw  # initializer of a graph
    graph = b"\x3a" + varint(len(tensor) + size)
    with path.open("wb") as handle:
        handle.write(graph + tensor)
        handle.seek(size, 1)
        # Fields of one message may come in parts; they are merged.
        handle.write(small.SerializeToString())
    tracemalloc.start()
    found = declared.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.ir_version == 10 and peak < 1 << 20
    path.unlink()


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@settings(max_examples=examples(300),
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.data())
def test_a_damaged_file_is_an_error_in_words(tmp_path, data):
    good = models.matmul(tmp_path / "m.onnx", external=False).read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(
        st.sampled_from([good[:place], good[:place] + b"\xff" * 11 + good[place:], good[place:]])
    )
    path = tmp_path / "bad.onnx"
    path.write_bytes(bad)
    try:
        declared.read(path)
    except ModelOpsError as error:
        assert str(path) in str(error) and error.remedy


def test_it_needs_no_package():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'module_utils')!r});"
    code += "import modelops.preflight.host"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
