"""The operators that can be quantized: the one list, which a module's options are made of, too.

Standard library only: the options are read where there is no onnx.
"""

from __future__ import annotations

# A scale for each element of the last dimension, within each matrix of a stack of matrices.
LAST = -1
# As many leading dimensions as weights.rows has: Einsum may sum over any of them.
BY_ROWS = -2
# No scale: FP16 instead of INT8.
IN_HALF = -3
# Operators with weights: the inputs that can be one, and the leading dimensions of such a weight
# that have a scale for each of their elements (LAST: the last dimension has). Those are the
# output channels, but for ConvTranspose, whose weight begins with the input channels.
WEIGHTS: dict[str, dict[int, int]] = {
    "MatMul": {1: LAST, 0: LAST}, "Gemm": {1: LAST, 0: LAST}, "Gather": {0: 1}, "Conv": {1: 1},
    "ConvTranspose": {1: 1}, "LSTM": {1: 2, 2: 2}, "GRU": {1: 2, 2: 2}, "RNN": {1: 2, 2: 2},
    "Attention": {1: LAST}, "Einsum": dict.fromkeys((1, 0, 2), BY_ROWS),
    "FusedMatMul": {1: LAST, 0: LAST}, "FusedGemm": {1: LAST, 0: LAST}, "FusedConv": {1: 1},
    "EmbedLayerNormalization": {2: 1, 3: 1, 4: 1},
}  # fmt: skip
# What onnxruntime made of other operators, in a graph that it saved: op_types means it with them.
FUSED = {
    "FusedMatMul": "MatMul", "FusedGemm": "Gemm", "FusedConv": "Conv",
    "EmbedLayerNormalization": "Gather",
}  # fmt: skip
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
QUANTIZABLE = tuple(op for op in WEIGHTS if op not in FUSED)
