"""What everything stands on: errors, files, locks, other programs, memory, progress, Windows.

Gives `ModelOpsError`, durable and atomic files, locks on files, and answers of other programs.
Standard library only. Imports no other folder.
"""
