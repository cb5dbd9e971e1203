"""What must be true of a host before anything is touched, as rows with a remedy.

Gives rows for builders, targets and Windows, and the causes of hosts that do not answer. Changes
nothing. Imports base, model, measuring and judging.
"""
