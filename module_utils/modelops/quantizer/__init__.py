"""From a source in FP32 to artifacts in INT8: a recipe, a plan, forms, a stream, and the proof.

Gives `quantize`, `Recipe` and `Proof`. Knows neither Ansible nor hosts. Imports base, model,
measuring, judging and pair.
"""
