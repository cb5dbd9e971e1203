"""What a node does to its product: a factor, and the activation that onnxruntime fused into it."""

from __future__ import annotations

from onnx import NodeProto

from ..model.weights import attribute

# What FusedGemm may do to its result; each is an operator of ONNX. Empty is nothing.
ACTIVATIONS = frozenset({
    "", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign",
    "Tanh", "ThresholdedRelu",
})  # fmt: skip


def factor(node: NodeProto, name: str) -> float:
    """Return a factor of a node, such as alpha: 1 where it has none."""
    value = attribute(node, name, 1.0)
    assert isinstance(value, float)
    return value


def activation(node: NodeProto) -> str:
    """Return the operator that a fused node applies to its result, or nothing."""
    name = attribute(node, "activation", b"") if node.op_type == "FusedGemm" else b""
    assert isinstance(name, bytes)
    return name.decode()


def of_activation(node: NodeProto) -> dict[str, float]:
    """Return the attributes of that operator."""
    prefix = "activation_"
    given = (a.name for a in node.attribute if a.name.startswith(prefix))
    return {name.removeprefix(prefix): factor(node, name) for name in given}
