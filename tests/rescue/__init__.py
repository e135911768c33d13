"""The rescue program: its parts against the real libraries, and whole pools restored by it."""
