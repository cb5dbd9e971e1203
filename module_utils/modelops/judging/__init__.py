"""Whether what was measured is good enough, and how that is told.

Gives gates with their operators, the report of a run, and the table of what is in service. Pure: it
reads no file and runs nothing. Imports base and pair.
"""
