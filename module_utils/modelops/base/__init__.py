"""What everything stands on: errors, files, locks, other programs, memory, progress, Windows.

Gives `ModelOpsError`, durable and atomic files, an opener for files of others, locks on files,
answers of other programs, and what a host said as a terminal or a page may show it (`host_text`).
Standard library only. Imports no other folder.
"""
