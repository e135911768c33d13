"""What only one kind of drive does."""
