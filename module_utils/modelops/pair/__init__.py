"""The files of a release on their way: their names, manifest and hashes, copies and pushes.

Gives `manifest`, `names`, verified copies, the push by SFTP, and `received`, which checks what a
host sent before anything is made of it. Imports base.
"""
