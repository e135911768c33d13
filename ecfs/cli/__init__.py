"""The command line: one module per command, imported when it is typed, so that `ecfs --help` is quick."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback

import click

from ecfs import __version__

COMMANDS = {
    "create": "Make a pool.",
    "mount": "Mount a pool on a folder.",
    "umount": "Store everything and unmount.",
    "sync": "Make everything written so far durable.",
    "status": "Say how a pool is, and what to do.",
    "events": "Say what happened, when, and to which drive.",
    "alert-test": "Run the command that is told of events, to see that it works.",
    "scrub": "Verify everything, rebuild what is damaged or missing.",
    "drill": "Prove that any two drives may be lost.",
    "replace": "Put a new drive into a slot and rebuild it.",
    "demo": "Lose drives and get every byte back, in a temporary folder.",
    "put": "Copy a file into a pool, without FUSE.",
    "get": "Copy a file out of a pool, without FUSE.",
    "ls": "List files in a pool, without FUSE.",
    "rm": "Remove files from a pool, without FUSE.",
    "node": "Serve a directory as a drive to other machines.",
    "certs": "Make certificates for a pool of nodes.",
    "probe": "Try out one storage node.",
}
"""Every command with its short help, in the order of a first day."""


class Commands(click.Group):
    """Finds a command's module by its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"ecfs.cli.{cmd_name.replace('-', '_')}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


EPILOG = """\b
Exit status: 0 healthy or done; 1 works, but redundancy is missing;
2 bad usage or refused; 3 data is lost or can't be decoded right now."""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__, prog_name="ecfs", message="%(prog)s %(version)s")
def group() -> None:
    """A folder whose files survive the loss of any two of six drives."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status. Every expected failure is one line on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # `ecfs ls` gives out names of any bytes, as ls does
    try:
        status = group.main(args=arguments, prog_name="ecfs", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        return _complain(_usage_line(error), 2)
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter must not complain about that when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return _failed(error)


def _usage_line(error: click.UsageError) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "ecfs"
    return f"{text} (see: {command} --help)"


def _failed(error: Exception) -> int:
    from ecfs.control.failure import expected, leaves

    if os.environ.get("ECFS_DEBUG"):
        traceback.print_exc()
    known = expected(error)
    if known is not None:
        return _complain(str(known), known.exit_status)
    first = next(leaves(error))
    if isinstance(first, OSError) and first.filename and first.strerror:
        return _complain(f"{os.fsdecode(first.filename)}: {first.strerror}", 2)  # says all that there is to say
    if isinstance(first, FileNotFoundError) and _stands_nowhere():
        return _complain("the directory in which you are was deleted: cd to another, or give absolute paths", 2)
    text = f"{type(first).__name__}: {first}"
    return _complain(f"unexpected error, please report it ({text}); ECFS_DEBUG=1 shows where", 2)


def _stands_nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _complain(text: str, status: int) -> int:
    click.echo("ecfs: " + " ".join(text.split()), err=True)
    return status
