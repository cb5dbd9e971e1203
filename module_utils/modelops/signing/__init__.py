"""Signatures of releases, by ssh-keygen: made on the controller, verified on targets.

Gives the controller its keys, its ledger and signatures, and a target the refusal of what is
forged, replayed, unsigned, revoked or foreign; preflight the rows that foretell it. Standard
library only. Imports base and pair.
"""
