"""The command line: arguments, signals, exit codes (0 ended, 1 gave up, 2 the configuration can't be used)."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import queue
import signal
import sys

from event_agent import __version__
from event_agent.config.load import Loaded, load
from event_agent.config.render import check_report, help_config
from event_agent.errors import ConfigError
from event_agent.runtime import log
from event_agent.runtime.sdnotify import Notifier, inherited

logger = logging.getLogger("event_agent")

DEFAULT_FILE = "/etc/event-agent/event_agent.conf.xml"


def main(argv: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    options = parser().parse_args(argv)
    if options.help_config:
        print(help_config(), end="")
        return 0
    environ = dict(os.environ)
    if options.log_level:
        environ["MOD_EVENT_AGENT_LOG_LEVEL"] = options.log_level
    path = options.config or (DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else None)
    try:
        loaded = load(path, environ)
        if options.check:
            return _check(loaded, options.quiet)
        return _run(loaded, path, environ)
    except ConfigError as error:
        for fault in error.faults:
            print(f"{log.priority(3)}event-agent: {fault}", file=sys.stderr)
        if not options.check:
            Notifier(environ).send(f"STATUS=Wrong configuration: {error.faults[0]}")
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line; the manual page is made from it too."""
    parser = argparse.ArgumentParser(
        prog="event-agent", description="A bridge between FreeSWITCH and NATS: commands in, events out, as JSON."
    )
    parser.add_argument("-c", "--config", metavar="FILE", help=f"configuration file (default {DEFAULT_FILE})")
    parser.add_argument("--check", action="store_true", help="check the configuration, print the settings in force")
    parser.add_argument("--quiet", action="store_true", help="with --check: say only what is wrong")
    parser.add_argument("--log-level", metavar="L", help="debug, info, warning or error")
    parser.add_argument("--help-config", action="store_true", help="describe every setting")
    parser.add_argument(
        "--version", action="version", version=f"event-agent {__version__}", help="show the version and exit"
    )
    return parser


def _check(loaded: Loaded, quiet: bool) -> int:
    from event_agent.app import Daemon

    Daemon(loaded.settings)  # what can only be seen by putting the parts together
    for warning in loaded.warnings:
        print(f"{log.priority(4)}event-agent: warning: {warning}", file=sys.stderr)
    if not quiet:
        print(check_report(loaded), end="")
    return 0


def _run(loaded: Loaded, path: str | None, environ: dict[str, str]) -> int:
    from event_agent.app import Daemon

    log.setup(loaded.settings.log_level)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    notifier = Notifier(environ)
    daemon = Daemon(loaded.settings, notifier, inherited(environ))
    faulthandler.enable()  # the watchdog ends us with SIGABRT: the log then shows where each thread stood
    # A handler only queues the signal; what it means is done here, between two waits.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: signals.put(received))
    daemon.start()
    notifier.send("READY=1")
    code = 0
    while True:
        notifier.status(daemon.links)
        well = daemon.healthy()
        if notifier.watchdog and well:
            notifier.send("WATCHDOG=1")
        try:
            received = signals.get(timeout=1.0)
        except queue.Empty:
            if daemon.gave_up.is_set():
                code = 1
                break
            continue
        if received == signal.SIGHUP:
            try:
                loaded = load(path, environ)
                for warning in loaded.warnings:
                    logger.warning("%s", warning)
                daemon.reload(loaded.settings)
            except ConfigError as error:
                for fault in error.faults:
                    logger.error("%s", fault)
                logger.error("the configuration was not taken over; the old one stays in force")
            continue
        logger.info("%s: draining", signal.Signals(received).name)
        break
    notifier.send("STOPPING=1", "STATUS=Draining")
    daemon.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
