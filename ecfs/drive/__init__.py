"""Drives: the contract (``base``), its implementations, and small wrappers around them."""
