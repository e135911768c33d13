"""Composition: from what a person named to an open pool, and on to a mounted folder. Short steps, one nursery."""
