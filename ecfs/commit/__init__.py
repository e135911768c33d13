"""The commit engine: dirty data → stripes → record; outcomes, space, the compactor, checkpoints."""
