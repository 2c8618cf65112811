"""The commands that run beside a service: `run`, `exec` and `pipe`.

A stream cannot be read twice, so a command line with a pipe or a command runs as two processes: a small parent that owns
the pipes and becomes ready at once, and a worker, started with the same command line, which is the agent.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings

HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

CONFIG_OPTION: Final = click.option(
    "--config", "-c", "config", required=True, metavar="FILE", help="The configuration file (docs/configuration.md)."
)


@click.command()
@CONFIG_OPTION
def run(config: str) -> int:
    """Run the agent over the sources of a configuration file, until SIGTERM.

    SIGTERM or Ctrl-C ends it in order: what was read is sealed and shipped within `shutdown_grace`; what could not be
    shipped stays on disk. A second signal does not wait for the stores. A changed configuration takes effect by itself,
    or on SIGHUP; an invalid one changes nothing and is reported.

    \b
    Example:
      trailseal check --config trailseal.yaml && trailseal run --config trailseal.yaml
    """
    from ..config import load, require_sources

    def read() -> Settings:
        settings = load(config, os.environ)
        require_sources(settings)
        return settings

    return _start(read)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@CONFIG_OPTION
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def execute(config: str, command: tuple[str, ...]) -> int:
    """Run COMMAND, and the agent over its stdout and stderr.

    Audit lines go to the trail; every other line is passed on, byte for byte, to our own stdout and stderr. Signals are
    forwarded, and the exit code is the command's. If the agent's worker crashes it is started again and nothing is lost;
    the command never notices. Works as a container's entry point (PID 1).

    \b
    Example:
      trailseal exec --config trailseal.yaml -- ./payments --port 8080
    """
    from ..config import load, with_stream_source

    return _start(lambda: with_stream_source(load(config, os.environ), "command", command))


@click.command()
@CONFIG_OPTION
def pipe(config: str) -> int:
    """Run the agent over standard input, until its end.

    \b
    Example:
      ./payments 2>&1 | trailseal pipe --config trailseal.yaml
    """
    from ..config import load, with_stream_source

    return _start(lambda: with_stream_source(load(config, os.environ), "pipe"))


def _start(read: Callable[[], Settings]) -> int:
    """Become the agent, or the parent of one if there are streams to own; `read` is called again to reload."""
    from ..relay import Feed, Limits, become_parent, worker_command
    from ..relay.wire import ENVIRONMENT_KEY

    # A signal that comes before its handler must wait for it: the kernel would end us, or forget it where we are process 1.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    settings = read()
    streams = [source for source in settings.sources if source.is_stream]
    if streams and ENVIRONMENT_KEY not in os.environ:
        # Whatever is wrong with these is said now, on a terminal somebody looks at, and not by a worker in a loop.
        settings.load_catalog()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        become_parent(
            [Feed(source.id, source.command) for source in streams],
            worker_command(sys.argv[1:]),
            Limits(grace_seconds=settings.shutdown_grace_seconds, when_full=settings.spool.when_full),
            keep_running=len(streams) < len(settings.sources),
        )
    _load_structlog_without_rich()
    from .. import runtime
    from ..vitals import log
    from ..vitals.supervisor import Supervisor

    log.configure(settings.log.level)
    # Beside a command, the service that a manager sees is the command: it speaks for itself, if it does.
    supervisor = Supervisor() if streams else Supervisor.of(os.environ)
    code = runtime.run(settings, read, supervisor)
    # A thread that waits for a store which hangs in the kernel cannot be ended, and the interpreter would wait for it for ever.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _load_structlog_without_rich() -> None:
    """Load structlog so that it does not load rich with it.

    Its console renderer does so wherever rich is installed, which would cost every agent 5 MiB and 50 ms for coloured
    tracebacks that an agent, whose log is JSON, never draws.
    """
    if "rich" in sys.modules:
        return
    # An entry of None is how Python is told that a module is not there.
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401  only loaded here
    finally:
        del sys.modules["rich"]
