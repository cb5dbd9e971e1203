"""A host that serves a model: its releases, the moves between them, the run lock, the service.

Gives activate, commit, revert, roll back and self-revert as operations that a power cut leaves
whole, and evidence of what the service serves. Standard library only. Imports base, model, pair,
config and signing.
"""
