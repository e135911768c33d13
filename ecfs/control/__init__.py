"""How a mounted pool is talked to: where its daemon is found, what it says of itself, and what it can be asked.

The daemon listens on a unix socket (0600) that only its own user and root may use. Requests and answers are lines of
JSON (`protocol`); the first line asks, every further one answers.
"""
