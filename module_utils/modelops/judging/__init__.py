"""Whether what was measured is good enough, and how that is told.

Gives gates with their operators, and the tables of figures and of what is in service. Pure: it
reads no file and runs nothing. Imports base.
"""
