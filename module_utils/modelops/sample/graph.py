"""The weights and the graph of the look-alike model, see sample.py."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

CODEBOOKS = 16
CODEBOOK_SIZE = 1024
MEL_BINS = 2048
LAYERS = 4
HEAD_WIDTH = 32
OPSET, IR_VERSION = 20, 10

_BLOCK = 1 << 20  # weights made at a time: 4 MiB, and a few times that in temporaries
_OUTPUT_SIZE = 0.5  # scale of the head: outputs have a standard deviation of about 0.6
_OUTLIER_SHARE = 512  # one channel in so many is an outlier
_BYTE_SUM_MEAN = 510.0  # of the sum of four uniform bytes
_BYTE_SUM_STD = 147.801  # sqrt(4 * (256**2 - 1) / 12)


@dataclass(frozen=True)
class Plan:
    """The shape of a look-alike: model width, hidden width of its feed-forward layers, steps."""

    width: int
    hidden: int
    steps: int
    upsample: int


class Stream(Protocol):
    """Takes the bytes of the data file in order."""

    def put(self, block: bytes | memoryview) -> None:
        """Take the next bytes."""

    def align(self, boundary: int) -> int:
        """Fill with zeros up to a multiple of `boundary` and return the offset reached."""


class Weights:
    """Makes tensors block by block and keeps their descriptions for the graph."""

    def __init__(self, stream: Stream, location: str, seed: int, outlier: float) -> None:
        self.tensors: list[Any] = []
        self._uses = 0
        self._stream = stream
        self._location = location
        self._seed = seed
        self._outlier = outlier

    def matrix(
        self,
        name: str,
        inputs: int,
        outputs: int,
        transposed: bool = False,
        flat: bool = False,
        size: float = 1.0,
    ) -> str:
        """Add a weight [inputs, outputs], or [outputs, inputs] when `transposed`.

        Bell-shaped with a standard deviation of size/sqrt(inputs), times a scale of its own for
        each output channel; unless `flat`, a few channels of both kinds are `outlier` times larger.
        """
        import numpy as np

        scale_out = self._spread(outputs, 1.0 if flat else self._outlier)
        scale_out *= np.float32(size / math.sqrt(inputs))
        scale_in = np.ones(inputs, np.float32)
        if not flat:
            scale_in[self._some(inputs)] = self._outlier
        by_row, by_column = (scale_out, scale_in) if transposed else (scale_in, scale_out)
        rows, columns = len(by_row), len(by_column)
        self._describe(name, (rows, columns))
        bits = self._bits()
        step = max(1, _BLOCK // columns)
        for first in range(0, rows, step):
            scale = by_row[first : first + step, None]
            block = _bell(bits, len(scale) * columns).reshape(len(scale), columns)
            block *= by_column
            block *= scale
            self._stream.put(block.reshape(-1).view(np.uint8).data)
        return name

    def vector(self, name: str, length: int, mean: float, spread: float) -> str:
        """Add a vector, bell-shaped around `mean` with the standard deviation `spread`."""
        import numpy as np

        self._describe(name, (length,))
        values = np.float32(mean) + np.float32(spread) * _bell(self._bits(), length)
        self._stream.put(values.tobytes())
        return name

    def gain(self, name: str, length: int) -> str:
        """Add the gain of a normalization, with a few outliers that are half as strong."""
        self._describe(name, (length,))
        self._stream.put(self._spread(length, max(1.0, self._outlier / 2)).tobytes())
        return name

    def _spread(self, length: int, outlier: float) -> Floats:
        """Scales from 0.6 to 1.5, a few of them `outlier` times larger."""
        import numpy as np

        uniform = (self._bits().random_raw(length) >> np.uint64(40)).astype(np.float32)
        scale = np.float32(0.6) + np.float32(0.9 / 2**24) * uniform
        scale[self._some(length)] *= np.float32(outlier)
        return scale

    def _some(self, length: int) -> NDArray[np.uint64]:
        import numpy as np

        count = max(1, length // _OUTLIER_SHARE)
        return np.unique(self._bits().random_raw(count) % np.uint64(length))

    def _bits(self) -> np.random.SFC64:
        """Return a fresh stream of random bits for each use, all following from the seed."""
        import numpy as np

        self._uses += 1
        return np.random.SFC64([self._seed, self._uses])

    def _describe(self, name: str, shape: tuple[int, ...]) -> None:
        """Note the tensor that starts here."""
        import onnx

        length = 4 * math.prod(shape)
        offset = self._stream.align(4096 if length >= 1 << 16 else 64)
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.TensorProto.FLOAT,
            dims=shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        entries = {"location": self._location, "offset": str(offset), "length": str(length)}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        self.tensors.append(tensor)


def _bell(bits: np.random.SFC64, count: int) -> Floats:
    """Return `count` values of mean 0 and standard deviation 1: each the sum of four bytes."""
    import numpy as np

    raw = bits.random_raw((count + 1) // 2).view(np.uint32)[:count]
    pairs = raw & np.uint32(0x00FF00FF)
    raw >>= np.uint32(8)
    raw &= np.uint32(0x00FF00FF)
    pairs += raw  # two sums of two bytes, each in its own 16 bits
    np.right_shift(pairs, np.uint32(16), out=raw)
    raw += pairs
    raw &= np.uint32(0x3FF)
    values = raw.astype(np.float32)
    values -= np.float32(_BYTE_SUM_MEAN)
    values *= np.float32(1 / _BYTE_SUM_STD)
    return values


class GraphBuilder:
    """The nodes, with the weights made in the order in which the nodes need them."""

    def __init__(self, shape: Plan, weights: Weights) -> None:
        self._shape = shape
        self._weights = weights
        self._constants: list[Any] = []
        self._nodes: list[Any] = []

    def build(self) -> Any:
        """Make all weights and return the ModelProto."""
        from onnx import TensorProto, helper

        s = self._shape
        x = self._embed("audio_codes")
        for layer in range(LAYERS):
            x = self._layer(x, f"layer{layer}")
        self._head(x, "mel_features")
        codes = helper.make_tensor_value_info(
            "audio_codes", TensorProto.INT64, [1, CODEBOOKS, s.steps]
        )
        mel = helper.make_tensor_value_info(
            "mel_features", TensorProto.FLOAT, [1, MEL_BINS, s.steps * s.upsample]
        )
        graph = helper.make_graph(
            self._nodes, "sample", [codes], [mel], [*self._constants, *self._weights.tensors]
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="sample_model"
        )

    def _embed(self, codes: str) -> str:
        """Codes [1, 16, T] -> [1, T, D]: each codebook gives D/16 of the channels."""
        s, part = self._shape, self._shape.width // CODEBOOKS
        starts = [CODEBOOK_SIZE * book for book in range(CODEBOOKS)]
        index = self._node("Add", [codes, self._ints("starts", starts, (1, CODEBOOKS, 1))], "index")
        table = self._weights.matrix(
            "embedding", part, CODEBOOKS * CODEBOOK_SIZE, transposed=True, flat=True
        )
        x = self._node("Gather", [table, index], "embedded", axis=0)
        x = self._node("Transpose", [x], "embedded_by_step", perm=[0, 2, 1, 3])
        return self._node("Reshape", [x, self._ints("full", [1, s.steps, s.width])], "x")

    def _layer(self, x: str, name: str) -> str:
        d, hidden, w = self._shape.width, self._shape.hidden, self._weights
        y = self._normalize(x, f"{name}.norm1")
        y = self._attention(y, f"{name}.attention")
        x = self._node("Add", [x, y], f"{name}.x1")
        y = self._normalize(x, f"{name}.norm2")
        y = self._node("MatMul", [y, w.matrix(f"{name}.up", d, hidden)], f"{name}.up.y")
        y = self._node("Add", [y, w.vector(f"{name}.up.b", hidden, 0, 0.1)], f"{name}.up.z")
        y = self._node("Gelu", [y], f"{name}.gelu")
        y = self._node("MatMul", [y, w.matrix(f"{name}.down", hidden, d)], f"{name}.down.y")
        y = self._node("Add", [y, w.vector(f"{name}.down.b", d, 0, 0.1)], f"{name}.down.z")
        return self._node("Add", [x, y], f"{name}.x2")

    def _attention(self, x: str, name: str) -> str:
        s, w = self._shape, self._weights
        heads = s.width // HEAD_WIDTH
        by_head = self._ints(f"{name}.by_head", [1, s.steps, heads, HEAD_WIDTH])
        y = self._node(
            "MatMul", [x, w.matrix(f"{name}.qkv", s.width, 3 * s.width)], f"{name}.qkv.y"
        )
        parts = [f"{name}.{part}" for part in "qkv"]
        self._node("Split", [y], *parts, axis=-1, num_outputs=3)
        turned = []
        for part, order in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True):
            y = self._node("Reshape", [part, by_head], f"{part}.heads")
            turned.append(self._node("Transpose", [y], f"{part}.turned", perm=order))
        y = self._node("MatMul", turned[:2], f"{name}.scores")
        scale = self._constant(f"{name}.scale", [HEAD_WIDTH**-0.5], (), "float32")
        y = self._node("Mul", [y, scale], f"{name}.scaled")
        y = self._node("Softmax", [y], f"{name}.shares", axis=-1)
        y = self._node("MatMul", [y, turned[2]], f"{name}.mixed")
        y = self._node("Transpose", [y], f"{name}.by_step", perm=[0, 2, 1, 3])
        y = self._node("Reshape", [y, "full"], f"{name}.joined")
        return self._node("MatMul", [y, w.matrix(f"{name}.out", s.width, s.width)], f"{name}.y")

    def _head(self, x: str, output: str) -> None:
        """[1, T, D] -> [1, 2048, T * upsample]."""
        s, w = self._shape, self._weights
        y = self._normalize(x, "norm")
        y = self._node("Reshape", [y, self._ints("rows", [s.steps, s.width])], "steps")
        weight = w.matrix("head", s.width, MEL_BINS, transposed=True, size=_OUTPUT_SIZE)
        bias = w.vector("head.b", MEL_BINS, 0, 0.1)
        y = self._node("Gemm", [y, weight, bias], "head.y", transB=1)
        y = self._node("Reshape", [y, self._ints("frames", [1, s.steps, MEL_BINS])], "mel_by_step")
        if s.upsample == 1:
            self._node("Transpose", [y], output, perm=[0, 2, 1])
            return
        y = self._node("Transpose", [y], "mel", perm=[0, 2, 1])
        # One node that writes the large output itself, so that no second tensor of its size exists.
        scales = self._constant("scales", [1, 1, s.upsample], (3,), "float32")
        self._node(
            "Resize",
            [y, "", scales],
            output,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )

    def _normalize(self, x: str, name: str) -> str:
        d, w = self._shape.width, self._weights
        inputs = [x, w.gain(f"{name}.gain", d), w.vector(f"{name}.bias", d, 0, 0.05)]
        return self._node("LayerNormalization", inputs, f"{name}.y", axis=-1, epsilon=1e-5)

    def _node(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{outputs[0]}/{kind}"
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs[0]

    def _ints(self, name: str, values: list[int], shape: tuple[int, ...] | None = None) -> str:
        return self._constant(name, values, shape or (len(values),), "int64")

    def _constant(self, name: str, values: Any, shape: tuple[int, ...], kind: str) -> str:
        import numpy as np
        from onnx import numpy_helper

        array = np.array(values, kind).reshape(shape)
        self._constants.append(numpy_helper.from_array(array, name))
        return name
