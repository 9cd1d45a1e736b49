"""The command line: arguments, signals, exit codes (0 ended, 1 gave up, 2 the configuration can't be used)."""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import signal
import sys
import time
from typing import TYPE_CHECKING

from event_agent import __version__
from event_agent.config.load import Loaded, load
from event_agent.errors import ConfigError
from event_agent.runtime import log, reload
from event_agent.runtime.sdnotify import Notifier, inherited

if TYPE_CHECKING:  # the service is run without arguments, and need not have in memory what reads them
    import argparse

logger = logging.getLogger("event_agent")

ROUND = 2.0  # seconds between two looks at the threads
UNIT = "event-agent.service"
DEFAULT_FILE = "/etc/event-agent/event_agent.conf.xml"


class Options:
    """The arguments, with their values if none are given."""

    config: str | None = None
    check = quiet = connect = reload = help_config = False
    unit = UNIT
    log_level: str | None = None


def main(argv: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    options = parser().parse_args(words, Options()) if words else Options()
    if options.help_config:
        from event_agent.config.render import help_config

        print(help_config(), end="")
        return 0
    environ = dict(os.environ)
    if options.reload:
        return _reload(environ)
    if options.log_level:
        environ["MOD_EVENT_AGENT_LOG_LEVEL"] = options.log_level
    path = options.config or (DEFAULT_FILE if os.path.exists(DEFAULT_FILE) else None)
    try:
        if options.check:
            return _check(options, path, environ)
        return _run(load(path, environ), path, environ)
    except ConfigError as error:
        for fault in error.faults:
            line = f"event-agent: {fault}"
            if error.log_format == "json" and not options.check:
                line = log.as_json(time.time(), "ERROR", "event_agent", fault)
            print(f"{log.priority(3)}{line}", file=sys.stderr)
        if not options.check:
            Notifier(environ).send(f"STATUS=Wrong configuration: {error.faults[0]}")
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line; the manual page is made from it too."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="event-agent", description="A bridge between FreeSWITCH and NATS: commands in, events out, as JSON."
    )
    parser.add_argument("-c", "--config", metavar="FILE", help=f"configuration file (default {DEFAULT_FILE})")
    parser.add_argument(
        "--check", action="store_true",
        help="check the configuration, print the settings in force; without -c those of the service on this machine: "
        "its unit, environment file and credentials, as its user",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="with --check: say only what is wrong")
    parser.add_argument("--connect", action="store_true", help="with --check: try both links, too")
    parser.add_argument(
        "--unit", metavar="UNIT", default=UNIT, help="with --check: another service, such as event-agent@NAME"
    )
    parser.add_argument(
        "--reload", action="store_true", help="have the service's process read its configuration again (ExecReload=)"
    )
    parser.add_argument("--log-level", metavar="L", help="debug, info, warning or error")
    parser.add_argument("--help-config", action="store_true", help="describe every setting")
    parser.add_argument(
        "--version", action="version", version=f"event-agent {__version__}", help="show the version and exit"
    )
    return parser


def _check(options: Options, path: str | None, environ: dict[str, str]) -> int:
    from event_agent.app import Daemon
    from event_agent.config.render import check_report
    from event_agent.config.unit import service

    found = service(options.unit) if options.config is None else None
    if found is None and options.unit != UNIT:
        raise ConfigError([f"there is no unit {options.unit} on this machine"])
    loaded = found.load(environ) if found is not None else load(path, environ)
    daemon = Daemon(loaded.settings)  # what can only be seen by putting the parts together
    unread = [f"not looked at: {each}" for each in found.unread] if found is not None else []
    for warning in (*loaded.warnings, *unread, *daemon.check(options.connect)):
        print(f"{log.priority(4)}event-agent: warning: {warning}", file=sys.stderr)
    if not options.quiet:
        if found is not None:
            print(f"# as {found.name} has it: user {found.user}, {', '.join(found.files)}")
        print(check_report(loaded), end="")
    return _connect(loaded, options.quiet) if options.connect else 0


def _connect(loaded: Loaded, quiet: bool) -> int:
    """Try both links; 1 if one of them fails."""
    from event_agent.probe import findings, freeswitch, nats

    found = [*freeswitch.look(loaded.settings, loaded.sources), *nats.look(loaded.settings, loaded.sources)]
    if quiet:
        found = [each for each in found if each.level in (findings.WARNING, findings.FAULT)]
    print(findings.page(found), end="")
    return int(findings.worst(found) == findings.FAULT)


def _reload(environ: dict[str, str]) -> int:
    pid = environ.get("MAINPID", "")
    try:
        if not pid.isdigit():
            raise reload.NoReload("systemctl reload event-agent is meant to run this: there is no MAINPID")
        faults = reload.ask(reload.folder(environ), int(pid))
    except reload.NoReload as error:
        print(f"{log.priority(3)}event-agent: not reloaded: {error}", file=sys.stderr)
        return 1
    for fault in faults:
        print(f"{log.priority(3)}event-agent: not reloaded: {fault}", file=sys.stderr)
    return 2 if faults else 0


def _run(loaded: Loaded, path: str | None, environ: dict[str, str]) -> int:
    from event_agent.app import Daemon

    log.setup(loaded.settings.log_level, form=loaded.settings.log_format)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    notifier = Notifier(environ)
    try:
        daemon = Daemon(loaded.settings, notifier, inherited(environ))
    except ConfigError as error:
        raise ConfigError(error.faults, loaded.settings.log_format) from error
    faulthandler.enable()  # the watchdog ends us with SIGABRT: the log then shows where each thread stood
    # A handler only queues the signal; what it means is done here, between two waits.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: signals.put(received))
    daemon.start()
    notifier.send("READY=1")
    code, pause = 0, notifier.in_time(ROUND)
    while True:
        notifier.status(daemon.links)
        well = daemon.healthy()
        if notifier.watchdog and well:
            notifier.send("WATCHDOG=1")
        try:
            received = signals.get(timeout=pause)
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
                reload.report(reload.folder(environ), ())
            except ConfigError as error:
                reload.report(reload.folder(environ), error.faults)
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
