"""How the code is run: as an Ansible module, on the command line, as a job on Windows.

Gives the tail of every module's main(), the command line, and the host's side of the bridge. No
other folder imports it. Imports base and judging; the modules of library/ do the work.
"""
