"""The command line: one module per command, gathered in the group `main`."""

from __future__ import annotations

import click

from ecfs import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ecfs", message="%(prog)s %(version)s")
def main() -> None:
    """A folder whose files survive the loss of any two of six drives."""
