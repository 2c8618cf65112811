"""The command line: thin, and lazy, so that each command imports only what it runs.

Invariants: every error of our own ends as `trailseal: <message>` on stderr, a hint below it, and the error's exit code;
nothing here decides anything about trails, events or stores.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import click

from .errors import TrailsealError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTRIBUTES: Final = {
    "exec": "execute",
    "verify": "verify_command",
    "trust": "trust_command",
    "watch": "watch_command",
    "index": "index_command",
    "query": "query_command",
    "prove": "prove_command",
    "verify-proof": "verify_proof_command",
    "export": "export_command",
    "verify-pack": "verify_pack_command",
    "report": "report_command",
    "review": "review_command",
    "view": "view_command",
    "grant": "grant_command",
    "drill": "drill_command",
    "catalog": "catalog_command",
    "map": "map_command",
}
"""The commands whose function could not have the command's own name."""

COMMANDS: Final = {
    "run": ("agent.commands.agent", "Run the agent over the sources of a configuration file."),
    "exec": ("agent.commands.agent", "Run a command, and the agent over what it prints."),
    "pipe": ("agent.commands.agent", "Run the agent over standard input."),
    "check": ("agent.commands.check", "Check a configuration file and the state directory."),
    "doctor": ("agent.commands.doctor", "Ask the stores what they guarantee, and what our credentials could do."),
    "status": ("agent.commands.status", "Ask the running agent how it is."),
    "keygen": ("agent.commands.keygen", "Make an enrolment key for a service."),
    "verify": ("agent.reader.cli", "Check that a store's trails are intact and complete."),
    "trust": ("agent.reader.cli", "Print trust-file lines for the keys in a store."),
    "watch": ("agent.reader.watch.cli", "Find silent, unclosed and missing trails from a store alone."),
    "index": ("agent.reader.index.cli", "Build an index of a store, verified on the way."),
    "query": ("agent.reader.ask.cli", "Search a store's events; each answer says how complete it is."),
    "prove": ("agent.reader.evidence.cli", "Prove that one event is in a trail."),
    "verify-proof": ("agent.reader.evidence.offline.cli", "Check such a proof, offline."),
    "export": ("agent.reader.evidence.cli", "Hand events over, with their proofs, in one pack."),
    "verify-pack": ("agent.reader.evidence.offline.cli", "Check such a pack, offline."),
    "report": ("agent.reader.control.cli", "Say what evidence there is for each control, and what was never logged."),
    "review": ("agent.reader.control.cli", "Sign that somebody reviewed the log, and list who did."),
    "view": ("agent.reader.view.cli", "Show a store to auditors in a browser, read-only."),
    "grant": ("agent.reader.view.cli", "Give an auditor a link to that page, for a scope and a time."),
    "drill": ("agent.reader.drill.cli", "Tamper with a copy of a store in every known way, and see that it is caught."),
    "copy": ("agent.commands.copy", "Copy a store's trails into another store, checked on the way."),
    "catalog": ("agent.commands.catalog", "List, check and compare event catalogs: what is expected to be recorded."),
    "map": ("agent.commands.map", "Show what a mapping makes of lines of another format."),
    "version": ("agent.commands.version", "Print the version."),
}
"""Every command: the module that defines it, and its summary."""


class _Lazy(click.Group):
    """Import a command's module when the command is asked for, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which people meet them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = getattr(module, _ATTRIBUTES.get(cmd_name, cmd_name))
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Ship a service's audit events, sealed and hash-chained, to a store nobody can rewrite; verify them offline.

    \b
    Beside a service:   trailseal exec --config trailseal.yaml -- ./service
                        ./service 2>&1 | trailseal pipe --config trailseal.yaml
                        trailseal run --config trailseal.yaml
    As an auditor:      trailseal trust /srv/trail > trust.txt
                        trailseal verify /srv/trail --trust trust.txt
                        trailseal query /srv/trail --trust trust.txt --action 'role.*' --since 90d
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: The words after the program's name; those of the process by default.
    """
    try:
        result = cli.main(args=None if arguments is None else list(arguments), prog_name="trailseal", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("trailseal: interrupted", err=True)
        return 130
    except TrailsealError as error:
        click.echo(f"trailseal: {error.message}", err=True)
        click.echo(f"  hint: {error.hint}", err=True)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`| head`); there is nobody to tell.
        sys.stderr.close()
        return 1
    return result if isinstance(result, int) else 0


def entry() -> NoReturn:
    """Run the command line as a program, and end with its exit code."""
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if "obstore" in sys.modules:
        # Its threads may still be ending requests, and an interpreter that goes away under them aborts: the verdict of a
        # verification must not depend on that.
        os._exit(code)
    sys.exit(code)
