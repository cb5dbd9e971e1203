"""A Python environment with exactly what is pinned, online or from a wheelhouse.

Gives `make`, the pins of a requirements file, and downloads into a wheelhouse. Imports base.
"""
