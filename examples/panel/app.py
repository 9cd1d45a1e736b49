"""The panel as a program: its options, its parts, its end."""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from event_agent import __version__
from event_agent.ctl.connection import client
from event_agent.errors import ConfigError
from event_agent.runtime import memory

from .link import Link
from .users import ROLES, Users, UsersError, put
from .web import Server
from .world import World

LISTEN = "127.0.0.1:8095"
ENDS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="panel", description="A web page for the operator of FreeSWITCH nodes.")
    found.add_argument("--listen", default=LISTEN, metavar="HOST:PORT", help=f"where the page is ({LISTEN})")
    found.add_argument("--name", action="append", default=[], metavar="HOST[:PORT]",
                       help="a further name that browsers know it by, such as a reverse proxy's")  # fmt: skip
    found.add_argument("--users", metavar="FILE", type=Path, help="who may log in, with which role; see --user")
    found.add_argument("--user", metavar="NAME",
                       help="add NAME to the file of users, or change its password, and end")  # fmt: skip
    found.add_argument("--role", choices=ROLES, default="supervisor", help="the role of --user (supervisor)")
    link = found.add_argument_group("NATS (else the environment, else the agent's own file)")
    link.add_argument("--url", help="the server, or several separated by commas")
    link.add_argument("--token", help="better in the environment: MOD_EVENT_AGENT_TOKEN")
    link.add_argument("--creds", metavar="FILE", help="a .creds file")
    link.add_argument("--prefix", help="the agents' subject_prefix")
    link.add_argument("--verbs", action="store_true", help="send each command on a subject of its own")
    link.add_argument("-c", "--config", metavar="FILE", help="an agent's configuration file")
    return found


def address(text: str) -> tuple[str, int]:
    """HOST:PORT, [HOST]:PORT or :PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"--listen must be HOST:PORT, such as {LISTEN}")
    return host.strip("[]") or "127.0.0.1", int(port)


def add_user(options: argparse.Namespace) -> int:
    """Add a user to the file; the password is asked for, or comes on standard input."""
    try:
        if not options.users:
            raise UsersError("--user needs --users FILE")
        asking = sys.stdin.isatty()
        password = getpass.getpass(f"Password of {options.user}: ") if asking else sys.stdin.readline().rstrip("\n")
        if asking and getpass.getpass("Again: ") != password:
            raise UsersError("that was not the same")
        put(options.users, options.user, options.role, password)
    except UsersError as error:
        print(f"panel: {error}", file=sys.stderr)
        return 2
    print(f"{options.user} may log in as {options.role}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if options.user:
        return add_user(options)
    world = World()
    try:
        users = Users(options.users) if options.users else None
        link = Link(client(options, os.environ), world)
        server = Server(address(options.listen), world, link.command, tuple(options.name), users)
    except ConfigError as error:
        print("\n".join(f"panel: {fault}" for fault in error.faults), file=sys.stderr)
        return 2
    except (ValueError, UsersError) as error:
        print(f"panel: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"panel: {options.listen} can't be listened on: {error.strerror or error}", file=sys.stderr)
        return 2
    # Taken by sigwait below. A handler that sets an event on which this thread is about to wait may come too early for
    # it to wake and too late for it to be seen, and then nothing ends.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    listener = threading.Thread(target=server.serve_forever, args=(0.2,), name="panel-http", daemon=True)
    memory.settle()
    link.start()
    listener.start()
    host, port = str(server.server_address[0]), server.server_port
    where = f"[{host}]" if ":" in host else host
    if users is not None:
        log.info("%d users may log in", len(users))
    elif host not in ("127.0.0.1", "::1"):
        log.warning("the page is open to all who reach %s: it has no password, see its README", where)
    print(f"event-agent {__version__} panel: http://{where}:{port}/   (Ctrl-C ends it)", flush=True)
    signal.sigwait(ENDS)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)  # a second one ends it at once
    server.shutdown()
    server.server_close()
    world.hub.close()
    link.stop()
    listener.join(2.0)
    return 0
