"""A look-alike of the owner's model: its inputs, outputs and size, with other weights.

Gives `make_sample`. Imports base.
"""
