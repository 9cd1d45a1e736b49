"""event-agentctl: what fs_cli is for one FreeSWITCH, for all of them behind a NATS server.

Here are arguments, dispatch and exit codes: 0 done, 1 a command failed, 2 the command line or the configuration is
wrong, 3 no link, no agent or no reply in time. `check` has those of monitoring plugins.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from event_agent import __version__
from event_agent.client.client import AgentTimeout, Client, CommandFailed, NoAgent, NoneReady, NotAllowed, event_pattern
from event_agent.ctl.connection import DEFAULT_FILE, client, not_read
from event_agent.ctl.views import safe
from event_agent.errors import ConfigError, LinkError

NAME = "event-agentctl"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

EPILOG = f"""\
The connection is taken from the options, else from the environment (MOD_EVENT_AGENT_URL, _TOKEN, _NKEY_SEED, _CREDS,
_SUBJECT_PREFIX, _TLS_CA, _TLS_CERT, _TLS_KEY, _TLS_VERIFY, _LANES: the place for secrets), else it is that of the
agent on this machine, as far as you may read its settings: {DEFAULT_FILE},
/etc/default/event-agent, the unit with its drop-ins and credentials. Else it is nats://127.0.0.1:4222.

Without --node a command goes to one node whose FreeSWITCH is connected; hangup, app, watch and unwatch to
the one that has the channel; park, route, status and top to all; check to the one of this machine, if there is one.

Exit codes: 0 done, 1 the command failed, 2 wrong usage or configuration, 3 no link, no agent or no reply in time.
"""


EXAMPLES = {
    "status": "event-agentctl status\nevent-agentctl --node fs-node-01 status --json",
    "req": """event-agentctl req '{"command":"uuid_exists","args":"4f1c…"}'
event-agentctl req --all '{"command":"agent.status"}'
echo '{"command":"reloadxml","async":true}' | event-agentctl --node fs-node-01 req -""",
    "api": "event-agentctl api show channels\nevent-agentctl api --all sofia status",
    "originate": """event-agentctl originate user/1000 '&park'
event-agentctl originate -v record=yes --ring 20 sofia/gateway/gw/5551234 1001 --context internal""",
    "hangup": "event-agentctl hangup 4f1c… USER_BUSY",
    "app": """event-agentctl app 4f1c… playback /tmp/hello.wav
event-agentctl app --wait 40 --result pin 4f1c… play_and_get_digits '4 4 3 6000 # pin.wav wrong.wav pin \\d+'""",
    "watch": "event-agentctl watch 4f1c… DTMF CHANNEL_HANGUP_COMPLETE",
    "unwatch": "event-agentctl unwatch 4f1c…",
    "sendevent": "event-agentctl sendevent CUSTOM --subclass shop::order -H Order=4711 --body 'two pizzas'",
    "route": "event-agentctl route on --context public --except 112 --fallback park\nevent-agentctl route status",
    "park": "event-agentctl park on --context public --number '^0900'\nevent-agentctl park audio music jazz",
    "drain": "event-agentctl --node fs-node-01 drain on",
    "events": """event-agentctl events
event-agentctl events 'CHANNEL_*' --node fs-node-01
event-agentctl events sofia::register --fields node_id,from-user,contact
event-agentctl events CHANNEL_HANGUP_COMPLETE --json | jq -r .uuid""",
    "stream": "event-agentctl stream create\nevent-agentctl stream create calls --max-age 604800 --replicas 3\n"
    "event-agentctl stream show",
    "spool": "event-agentctl spool show\nsudo event-agentctl spool drop --yes",
    "doctor": "sudo event-agentctl doctor",
    "support-bundle": "sudo event-agentctl support-bundle\nsudo event-agentctl support-bundle /tmp/report.tar.gz",
    "check": "event-agentctl check\nevent-agentctl check --min-nodes 3 --max-dropped 0",
}
CHECK = """\
One line and an exit code as monitoring plugins have them (Nagios, Icinga):

On a machine that has an agent it is about this agent alone: whether its service runs, and its node. With --all, with
--min-nodes, or if the connection is given, it is about all nodes.

0 OK: every node's FreeSWITCH is connected.

1 WARNING: FreeSWITCH is unreachable on some of the nodes, a node is drained or paused or gets no events, two agents
have the same name, or one of the limits below is exceeded.

2 CRITICAL: no NATS server, no agent, this machine's service is not running, fewer nodes than --min-nodes, or FreeSWITCH
is unreachable on all.

3 UNKNOWN: wrong usage or configuration."""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Paragraphs are wrapped to the terminal; lines that begin with a blank are left as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = text.strip("\n").split("\n\n")
        return "\n\n".join(each if each.startswith(" ") else textwrap.fill(each, width) for each in parts)


class _Parser(argparse.ArgumentParser):
    """As argparse's, with one line of complaint instead of five."""

    def error(self, message: str) -> NoReturn:
        if self.prog == f"{NAME} check":  # there 2 would mean that the agents are in a critical state
            print(f"EVENT-AGENT UNKNOWN - {safe(message)}")
            raise SystemExit(3)
        self.exit(2, f"{self.prog}: {safe(message)} (see {self.prog} --help)\n")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """As parse_args, but what is unknown is the command's matter."""
        options, unknown = self.parse_known_args(argv)
        if unknown:
            options.parser.error(f"unknown argument {unknown[0]!r}")
        return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code. Console script `event-agentctl`."""
    # Python has None if a stream was closed (`>&-`): nothing is to be seen.
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    sys.stdin = sys.stdin or open(os.devnull)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale that lacks a character is no reason to fail
    try:
        if not (sys.argv[1:] if argv is None else argv):
            print(parser().format_help(), end="", file=sys.stderr)
            return 2
        code = _run(parser().parse(argv))
        sys.stdout.flush()
    except BrokenPipeError:
        _mute()  # who reads has had enough (`| head`)
        return 0
    except OSError as error:
        # Links and files have errors of their own, so this is the output: a full disk, a terminal that is gone.
        _mute()
        print(f"{NAME}: can't write: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _mute()
        return INTERRUPTED
    return code


def _mute() -> None:
    """What is still in the buffer of stdout must not be tried, and fail, again at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except OSError:
        pass


def _run(options: argparse.Namespace) -> int:
    if options.command == "completion":
        from event_agent.ctl.completion import bash, words

        if options.shell == "bash":
            print(bash(parser()), end="")
        else:
            print("\n".join(words(options, os.environ)))
        return 0
    if options.command == "spool":
        from event_agent.ctl.spool import run as spool

        return spool(options, os.environ)
    if options.command == "doctor":
        from event_agent.ctl.doctor import run as doctor

        return doctor(options, os.environ)
    if options.command == "support-bundle":
        from event_agent.ctl.bundle import run as bundle

        return bundle(options, os.environ)
    if options.command == "check":
        from event_agent.ctl.check import run as check

        return check(options, os.environ)
    from event_agent.ctl.commands import COMMANDS, Usage

    try:
        with client(options, os.environ) as connected:
            if options.command == "events":
                from event_agent.ctl.events import run as events

                return events(connected, options)
            if options.command == "stream":
                from event_agent.ctl.stream import StreamError
                from event_agent.ctl.stream import run as stream

                try:
                    return stream(connected, options)
                except StreamError as error:
                    _say(str(error))
                    return 1
            if options.command == "top":
                from event_agent.ctl.top import run as top

                return top(connected, options)
            try:
                return COMMANDS[options.command](connected, options)
            except NoAgent as error:
                raise NoAgent(_who_is_there(connected, options, error)) from None
    except ConfigError as error:
        for fault in error.faults:
            _say(fault)
        return 2
    except (Usage, ValueError) as error:
        _say(str(error))
        return 2
    except CommandFailed as error:
        _say(str(error))
        return 1
    except (LinkError, NoAgent, AgentTimeout) as error:
        _say(str(error))
        if isinstance(error, LinkError) and (text := not_read(options, os.environ)):
            _say(text)
        return 3


def _who_is_there(client: Client, options: argparse.Namespace, error: NoAgent) -> str:
    """What to say if nobody listens."""
    from event_agent.ctl.nodes import node_of, statuses

    if isinstance(error, (NoneReady, NotAllowed)):
        return str(error)
    if not options.node:
        return f"{error}: is one running, and with this prefix?"
    try:
        names = [node_of(reply) for reply in statuses(client, None, 1.0)]
    except (LinkError, NoAgent):
        names = []
    return f"no agent is called {options.node!r} here; there are: {', '.join(names) or 'none at all'}"


def _say(text: str) -> None:
    sys.stdout.flush()
    print(f"{NAME}: {safe(text)}", file=sys.stderr)


# -- arguments


def parser() -> _Parser:
    """The command line."""
    main = _Parser(
        prog=NAME,
        description="Commands and events of all FreeSWITCH nodes behind a NATS server.",
        epilog=EPILOG,
        formatter_class=_Help,
    )
    main.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    _common(main, None)
    # The same options are taken after the command; there they must not undo what stands before it.
    common = _Parser(add_help=False)
    _common(common, argparse.SUPPRESS)
    commands = main.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)

    def add(name: str, help: str) -> argparse.ArgumentParser:
        description = CHECK if name == "check" else help[0].upper() + help[1:] + "."
        examples = "".join(f"  {line}\n" for line in EXAMPLES.get(name, "").splitlines())
        each = commands.add_parser(
            name, help=help, description=description, parents=[common], formatter_class=_Help,
            epilog=f"Examples:\n\n{examples}" if examples else None,
        )  # fmt: skip
        each.set_defaults(parser=each)
        return each

    each = add("status", "all nodes as a table")
    each.add_argument("--json", action="store_true", help="the nodes' replies instead of a table")
    _requests(add)
    _calls(add)
    _route(add("route", "a program decides over new calls"), common)
    _park(add("park", "park mode of the nodes: new calls wait for a program to say what becomes of them"), common)
    each = add("drain", "take a node out of those that get new calls, or back; it needs --node")
    each.add_argument("enabled", choices=("on", "off"))
    _live(add)
    add("doctor", "look at all that can be wrong between FreeSWITCH, this machine's agent and NATS, and say what to do")
    each = add("support-bundle", "put what a bug report needs into a file: versions, settings, states, the log's end")
    each.add_argument("file", metavar="FILE", nargs="?", help="(event-agent-support-HOST-TIME.tar.gz, here)")
    each.add_argument("--lines", type=_whole, default=2000, metavar="N", help="last lines of the log (2000)")
    _stream(add("stream", "the JetStream stream that keeps the events"), common)
    _spool(add("spool", "events that an agent on this machine has on disk for the broker"), common)
    each = add("completion", "print a completion script: eval \"$(event-agentctl completion bash)\"")
    each.add_argument("shell", choices=("bash", "nodes", "verbs", "events"))
    return main


def _common(to: argparse.ArgumentParser, default: Any) -> None:
    group = to.add_argument_group("connection")
    group.add_argument("--url", default=default, help="NATS server, or several separated by commas")
    group.add_argument("--token", default=default, help="token for it (better: MOD_EVENT_AGENT_TOKEN)")
    group.add_argument("--creds", default=default, metavar="FILE", help=".creds file for it")
    group.add_argument("--prefix", default=default, help="first part of every subject (freeswitch)")
    group.add_argument("--verbs", default=default, action="store_true", help="send commands in the subject")
    group.add_argument("-c", "--config", default=default, metavar="FILE", help=f"the agent's file ({DEFAULT_FILE})")
    group.add_argument("--unit", default=default, help="the agent on this machine, if it is not event-agent.service")
    group.add_argument("--node", default=default, help="only this node")
    group.add_argument("--timeout", default=default, type=_seconds, metavar="S", help="wait this long for a reply")


def _requests(add: Any) -> None:
    each = add("req", "send a request as it stands, print the reply")
    each.add_argument("--all", action="store_true", help="all nodes, one reply each")
    each.add_argument("json", metavar="JSON", help='such as {"command":"status"}; - reads it from standard input')
    each = add("api", "run a FreeSWITCH API command, print its output")
    each.add_argument("--all", action="store_true", help="on all nodes")
    each.add_argument("verb", metavar="VERB", help="such as status, show, uuid_dump")
    each.add_argument(
        "args", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments; our own options stand before VERB"
    )


def _calls(add: Any) -> None:
    each = add("originate", "make a call, print its uuid once it is answered")
    each.add_argument("endpoint", metavar="ENDPOINT", help="whom to call: user/1000, sofia/gateway/gw/5551234")
    each.add_argument("destination", metavar="DESTINATION", help="extension, or &application(arguments)")
    each.add_argument("--context", help="the destination's context (default)")
    each.add_argument("--dialplan", help="the destination's dialplan (XML)")
    each.add_argument("--caller-id-name", metavar="NAME", help="who calls")
    each.add_argument("--caller-id-number", metavar="NUMBER", help="from where")
    each.add_argument("--ring", type=_whole, metavar="S", help="let it ring for at most so many seconds (60)")
    each.add_argument("--uuid", help="the new channel's uuid, if you want to choose it")
    each.add_argument(
        "-v", "--variable", action="append", type=_variable, metavar="NAME=VALUE", help="a channel variable; repeatable"
    )
    each = add("hangup", "end a call")
    each.add_argument("uuid", metavar="UUID")
    each.add_argument("cause", metavar="CAUSE", nargs="?", help="such as USER_BUSY (NORMAL_CLEARING)")
    each = add("app", "run a dialplan application on a channel")
    each.add_argument("--wait", type=_seconds, metavar="S", help="wait until it has ended, for at most so many seconds")
    each.add_argument(
        "--result", action="append", metavar="NAME", help="with --wait: print this channel variable then; repeatable"
    )
    each.add_argument("uuid", metavar="UUID")
    each.add_argument("app", metavar="APP", help="such as playback, bridge, answer")
    each.add_argument(
        "args", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments; our own options stand before UUID"
    )
    each = add("watch", "have the events of a call published on subjects of its own")
    each.add_argument("uuid", metavar="UUID")
    each.add_argument("events", metavar="EVENT", nargs="*", help="such as DTMF, CHANNEL_HANGUP, sofia::x (all)")
    each.add_argument("--to", metavar="SUBJECT", help="below this one (<prefix>.calls.<uuid>)")
    each.add_argument("--ttl", type=_seconds, metavar="S", help="for at most so many seconds (86400)")
    each = add("unwatch", "end that")
    each.add_argument("uuid", metavar="UUID")
    each.add_argument("--to", metavar="SUBJECT", help="only the watch that publishes there")
    each = add("sendevent", "have FreeSWITCH fire an event, print its Event-UUID")
    each.add_argument("event", metavar="EVENT", help="its name: CUSTOM, NOTIFY, …")
    each.add_argument("--subclass", help="of a CUSTOM event: shop::order")
    each.add_argument(
        "-H", "--header", action="append", type=_variable, metavar="NAME=VALUE", help="one of its headers; repeatable"
    )
    each.add_argument("--body", metavar="TEXT", help="its body; - reads it from standard input")


def _park(to: argparse.ArgumentParser, common: _Parser) -> None:
    what = to.add_subparsers(dest="what", metavar="WHAT", required=True, parser_class=_Parser)
    each = what.add_parser("on", help="park new calls", parents=[common])
    each.add_argument("--context", action="append", help="only calls in this context; repeatable")
    each.add_argument("--number", metavar="REGEX", help="only calls to numbers that match")
    each.add_argument("--except", dest="excepted", metavar="NUMBER", action="append",
                      help="never calls to this number; 0900* for all that begin so; repeatable")
    what.add_parser("off", help="leave new calls to the normal dialplan", parents=[common])
    each = what.add_parser("audio", help="what parked callers hear", parents=[common])
    each.add_argument("mode", metavar="MODE", choices=("silence", "ringback", "music"), help="silence, ringback, music")
    each.add_argument("music_class", metavar="CLASS", nargs="?", help="which music (hold_music)")
    each = what.add_parser("autoanswer", help="whether calls are answered before they are parked", parents=[common])
    each.add_argument("enabled", choices=("on", "off"))
    what.add_parser("status", help="mode, audio and parked calls of each node", parents=[common])


def _route(to: argparse.ArgumentParser, common: _Parser) -> None:
    what = to.add_subparsers(dest="what", metavar="WHAT", required=True, parser_class=_Parser)
    each = what.add_parser("on", help="have a program decide over new calls", parents=[common])
    each.add_argument("--subject", help="where it is asked (<prefix>.route)")
    each.add_argument("--wait", type=_seconds, metavar="S", help="seconds that it has (0.8)")
    each.add_argument("--context", action="append", help="only calls in this context; repeatable")
    each.add_argument("--number", metavar="REGEX", help="only calls to numbers that match")
    each.add_argument("--except", dest="excepted", metavar="NUMBER", action="append",
                      help="never calls to this number; 0900* for all that begin so; repeatable")
    each.add_argument("-v", "--variable", action="append", metavar="NAME",
                      help="a channel variable to send with the question; repeatable")  # fmt: skip
    each.add_argument("--fallback", choices=("dialplan", "park"), help="what becomes of the other calls (dialplan)")
    what.add_parser("off", help="ask no program", parents=[common])
    what.add_parser("status", help="what programs have decided on each node, and what they have not", parents=[common])


def _live(add: Any) -> None:
    each = add("events", "events as they come; JSON lines in a pipe")
    each.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default=">", type=_pattern,
        help="CHANNEL_ANSWER, CHANNEL_*, sofia::register, or what stands in the subject: channel.*, custom.> (all)",
    )  # fmt: skip
    each.add_argument("--uuid", help="only those of this channel, of its call and of the other leg")
    each.add_argument("--fields", type=_names, metavar="A,B", help="only these fields and headers")
    each.add_argument("--json", action="store_true", help="one JSON object a line, on a terminal too")
    each.add_argument("-n", "--count", type=_whole, metavar="N", help="end after N events")
    each = add("top", "live table of the nodes and their rates; q ends it")
    each.add_argument("-n", "--count", type=_whole, metavar="N", help="end after N tables")
    each.add_argument("--interval", type=_seconds, default=1.0, metavar="S", help="seconds between two tables (1)")
    each = add("check", "state of the nodes for a monitoring system: 0 ok, 1 warning, 2 critical, 3 unknown")
    each.add_argument("--all", action="store_true", help="all nodes, not only the one of this machine")
    each.add_argument("--min-nodes", type=_whole, metavar="N", help="critical with fewer nodes (1)")
    each.add_argument("--max-pending", type=_whole, default=1000, metavar="N",
                      help="warn if more commands wait for FreeSWITCH (1000)")  # fmt: skip
    each.add_argument("--max-dropped", type=_whole, metavar="N",
                      help="warn if more events were dropped since the agent's start")  # fmt: skip


def _stream(to: argparse.ArgumentParser, common: _Parser) -> None:
    what = to.add_subparsers(dest="what", metavar="WHAT", required=True, parser_class=_Parser)
    each = what.add_parser("create", help="make one that fits at-least-once delivery", parents=[common])
    each.add_argument("name", metavar="NAME", nargs="?", default="events", type=_stream_name, help="(events)")
    each.add_argument("--storage", choices=("file", "memory"), default="file", help="where it keeps them (file)")
    each.add_argument("--replicas", type=_whole, default=1, metavar="N", help="copies in a cluster (1)")
    each.add_argument("--window", type=_span, default=600.0, metavar="S",
                      help="seconds for which an event that comes twice is removed (600)")  # fmt: skip
    each.add_argument("--max-age", type=_span, default=0.0, metavar="S",
                      help="seconds for which events are kept; 0 is no limit (0)")  # fmt: skip
    each.add_argument("--max-bytes", type=_bytes, default=0, metavar="N",
                      help="bytes kept, then the oldest go; 0 is no limit (0)")  # fmt: skip
    each = what.add_parser("show", help="what is in it", parents=[common])
    each.add_argument("name", metavar="NAME", nargs="?", type=_stream_name, help="(the one that has the events)")
    each.add_argument("--json", action="store_true", help="JetStream's answer")


def _spool(to: argparse.ArgumentParser, common: _Parser) -> None:
    what = to.add_subparsers(dest="what", metavar="WHAT", required=True, parser_class=_Parser)
    each = what.add_parser("show", help="how much waits", parents=[common])
    each.add_argument("--folder", help="(spool_dir of the agent's file)")
    each = what.add_parser("drop", help="delete what waits; only while the agent is stopped", parents=[common])
    each.add_argument("--folder", help="(spool_dir of the agent's file)")
    each.add_argument("--yes", action="store_true", help="really")


def _stream_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", text):
        raise argparse.ArgumentTypeError("must be 1 to 255 letters, digits, - and _")
    return text


def _span(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text):
        raise argparse.ArgumentTypeError("must be a number of seconds")
    return float(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 86400:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0.01 to 86400")
    return value


def _whole(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError("must be a whole number of at most nine digits")
    return int(text)


def _bytes(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):  # JetStream counts them in 64 bits
        raise argparse.ArgumentTypeError("must be a number of bytes")
    return int(text)


def _pattern(text: str) -> str:
    try:
        return event_pattern(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("must be names separated by commas")
    return names


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value

