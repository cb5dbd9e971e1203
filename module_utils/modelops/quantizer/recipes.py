"""The recipes and the forms by name: the one list, which options of modules are made of, too.

Standard library only: the options are read where there is no onnx.
"""

from __future__ import annotations

from collections.abc import Mapping

INT8, FP16, INT4 = "int8", "fp16", "int4"
# What each gives, for people. The default comes first.
RECIPES: Mapping[str, str] = {
    INT8: "a quarter of the size; faster, and less memory",
    FP16: "half of the size; FP32's speed and memory, since onnxruntime multiplies in FP32",
    INT4: "a seventh of the size; less memory, and less similar",
}
# Whether each column of a matrix has its own scale; the default comes first.
GRANULARITIES = PER_CHANNEL, PER_TENSOR = ("per_channel", "per_tensor")
# The forms of single nodes, see docs/architecture.md.
FORMS = (
    "dynamic_int8", "blockwise_int8", "weight_int8", "rows_int8", "fp32",
    "weight_fp16", "rows_fp16", "blockwise_int4",
)  # fmt: skip
DYNAMIC, BLOCKWISE, WEIGHT_ONLY, ROWS, FP32, HALF, HALF_ROWS, BLOCKWISE4 = FORMS
IN_BLOCKS = frozenset({BLOCKWISE, BLOCKWISE4})  # MatMulNBits
UNPACKED = frozenset({WEIGHT_ONLY, HALF})  # FP32 again when a session is made
HALVES = frozenset({HALF, HALF_ROWS})
