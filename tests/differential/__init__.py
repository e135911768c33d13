"""The same steps on a mounted pool and on a plain directory must end the same way, step by step."""
