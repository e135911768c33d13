"""Pools: the pool file, identities, the drive table in memory, who is in and who is out."""
