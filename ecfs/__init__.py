"""ecfs: a folder whose files survive the loss of any two of six drives."""

__version__ = "0.1.0"
