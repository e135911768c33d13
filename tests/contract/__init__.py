"""One suite for every drive."""
