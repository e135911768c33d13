"""The replicated journal: records, segments, superblock, checkpoints, opening and recovery."""
