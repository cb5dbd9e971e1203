"""An ONNX model as it is stored: its graph, its weights, where their bytes are.

Gives `read_model` and `validate`, weights with their readers, and blocks of tensors that are larger
than memory. `declared` and `protobuf` read a graph with the standard library alone. Imports base.
"""
