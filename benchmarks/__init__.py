"""Ecfs beside other file systems, beside itself and beside what the machine can do: docs/BENCHMARKS.md."""
