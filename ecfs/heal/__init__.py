"""Looking for damage and putting it right: watch, rejoin, repair, scrub, replace."""
