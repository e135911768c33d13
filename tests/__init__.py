"""Tests of ecfs; `docs/TESTING.md` says which kind lies where."""
