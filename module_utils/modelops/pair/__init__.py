"""The files of a release on their way: their names, manifest and hashes, copies and pushes.

Gives `manifest`, `names`, verified copies, and the push by SFTP. Imports base.
"""
