"""How FreeSWITCH's verbs say that they have failed, if that is not `-ERR` or `-USAGE` at the beginning.

One table: a row is a way to say it, the verbs that say it so, and the function it was read in (FreeSWITCH 1.10.12).
A verb without a row fails with `-ERR` or `-USAGE` at the beginning and in no other way; all else that it prints is
data. That goes for verbs that print what they are given (`echo`, `eval`, `system` …) and for those whose `false`,
`error/…` or `_undef_` is an answer (`user_exists`, `sofia_contact`, `getenv` …).

tests/functional/test_outcomes.py makes each verb fail on a FreeSWITCH, and succeed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

# Given the arguments and the answer: what it says of its failure; empty when it has not failed.
Judge = Callable[[str, str], str]

NO_REPLY = "-ERR no reply"  # mod_event_socket's words for empty output


@dataclass(frozen=True, slots=True)
class Row:
    """One way to say it."""

    verbs: tuple[str, ...]
    judge: Judge
    source: str


def failure(verb: str, args: str, answer: str) -> str:
    """What FreeSWITCH's answer says of a failure, in words of the verb's own; empty when it says nothing of one."""
    judge = _JUDGES.get(verb.lower())
    return "" if judge is None else judge(args, answer)


def begins(*texts: str) -> Judge:
    """The answer begins with one of these."""
    return lambda args, answer: answer.strip() if answer.startswith(texts) else ""


def exactly(text: str) -> Judge:
    """The answer is this and nothing else: as the beginning of something longer it would be data."""
    return lambda args, answer: text if answer.strip() == text else ""


def usage(args: str, answer: str) -> str:
    """The verb tells how it is used, and was not asked for that."""
    asked = args.split()[-1:] == ["help"]
    return answer.strip() if answer.startswith("USAGE:") and not asked else ""


def nothing(args: str, answer: str) -> str:
    """It says nothing at all; when it has done something, it says so."""
    return NO_REPLY if answer.startswith(NO_REPLY) else ""


def _either(*judges: Judge) -> Judge:
    def judge(args: str, answer: str) -> str:
        for each in judges:
            if said := each(args, answer):
                return said
        return ""

    return judge


def _last_word(args: str, answer: str) -> str:
    """A line for each step, `+OK` or `-ERR`. The last one counts: `reload` of a module that was not loaded can't unload
    it, and loads it all the same."""
    last = ""
    for line in answer.splitlines():
        if line.startswith(("+OK", "-ERR")):
            last = line
    return last if last.startswith("-ERR") else ""


def _ends(text: str) -> Judge:
    """The answer ends with this line, after whatever it has printed before."""
    return lambda args, answer: text if answer.rstrip().endswith(text) else ""


def _reloaded(args: str, answer: str) -> str:
    """`+OK [Success]`, or `+OK [what is wrong]`."""
    said = answer.strip().removeprefix("+OK ")
    return "" if said == "[Success]" or not answer.startswith("+OK [") else said[1:-1]


_SOFIA = begins(
    "Invalid ", "Unknown Command [", "No gateway name provided!", "Usage: sofia profile ", "Failure starting ",
)  # fmt: skip
_TOO_YOUNG = re.compile(r"Profile \S+ must be up for at least ")
_RELOADS = frozenset(("start", "startgw", "rescan"))  # what is reloaded is all that they are about


def _sofia(args: str, answer: str) -> str:
    said = _SOFIA(args, answer) or usage(args, answer)
    if said or not answer.startswith(("Reload XML [", "Profile ")):
        return said
    if _TOO_YOUNG.match(answer):
        return answer.strip()
    first, _, rest = answer.partition("\n")
    if first != "Reload XML [Success]" and not _RELOADS.isdisjoint(args.lower().split()[2:3]):
        return first
    return rest.strip() if rest.startswith(("Failure starting ", "-ERR")) else ""


def _sofia_dig(args: str, answer: str) -> str:
    """A line for each address that is not found; other addresses may be found all the same."""
    if answer.startswith("usage:"):
        return answer.strip()
    lines = answer.splitlines()
    missing = [line[line.index("-ERR: ") :] for line in lines if "-ERR: " in line]
    found = any(re.match(r"\s*\d+\t|\s*<route>", line) for line in lines)
    return missing[0] if missing and not found else ""


# What conference_api_dispatch prints of a command that was used in another way: its name and its syntax.
_CONFERENCE_SYNTAX = re.compile(r"([\w-]+) (?:[<\[]|on\|off\|none\|file <).*")
_DIALLED = re.compile(r"\+OK Call Requested: result: \[(?!SUCCESS\])(\w+)\]")


def _conference(args: str, answer: str) -> str:
    if answer.startswith("Conference command, not specified."):
        return answer.strip()
    if match := _DIALLED.match(answer):
        return f"-ERR {match[1]}"
    if answer.startswith("+OK"):
        return next((line for line in answer.splitlines() if line.startswith("-ERR ")), "")
    match = _CONFERENCE_SYNTAX.fullmatch(answer.strip())
    return answer.strip() if match and match[1].lower() in args.lower().split() else ""


def _local_stream(args: str, answer: str) -> str:
    return "" if args.lower().split()[:1] == ["show"] else nothing(args, answer)  # there may be none to show


def _json(args: str, answer: str) -> str:
    """It gives back the request with `status` and `message` added."""
    try:
        reply = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(reply, dict) or reply.get("status") != "error":
        return ""
    return str(reply.get("message") or "error")


def _expand(args: str, answer: str) -> str:
    """It runs another verb, once `${…}` in the arguments is expanded."""
    if answer.startswith("INVALID COMMAND!"):
        return answer.strip()
    verb = "expand"
    while verb.lower() == "expand":
        if args[:5].lower() == "uuid:":
            args = args.partition(" ")[2]
        verb, _, args = args.partition(" ")
    return failure(verb, args, answer) or _ends("-ERR Cannot execute command")(args, answer)


TABLE = (
    Row(("load", "reload", "unload"), _last_word, "mod_commands.c, load_function, reload_function"),
    Row(("reloadxml",), _reloaded, "mod_commands.c, reload_xml_function; switch_xml.c, switch_xml_reload"),
    Row(("expand",), _expand, "mod_commands.c, expand_function; switch_loadable_module.c, switch_api_execute"),
    Row(("json",), _json, "mod_commands.c, json_function; switch_loadable_module.c, switch_json_api_execute"),
    Row(
        ("uuid_limit", "uuid_limit_release", "limit_usage", "limit_hash_usage", "limit_status", "limit_reset",
         "limit_interval_reset", "interface_ip"),
        usage, "mod_commands.c, uuid_limit_function, limit_usage_function and those beside them, interface_ip_function",
    ),
    Row(("nat_map",), _either(usage, exactly("false")), "mod_commands.c, nat_map_function: `error:`"),
    Row(("md5",), exactly("!err!"), "mod_commands.c, md5_function"),
    Row(("host_lookup",), begins("!err!", "parameter missing"), "mod_commands.c, host_lookup_function"),
    Row(
        ("time_test", "timer_test", "db_cache"), begins("parameter missing", "Timer Error!", "Timer Destroy Error!"),
        "mod_commands.c, time_test_function, timer_test_function, db_cache_function",
    ),
    Row(("stun",), begins("-STUN Failed!"), "mod_commands.c, stun_function"),
    Row(("xml_locate",), begins("can't find anything"), "mod_commands.c, xml_locate_function"),
    Row(("pool_stats",), begins("Unable to get "), "mod_commands.c, pool_stats_function"),
    Row(
        ("unsched_api", "tone_detect", "uuid_setvar_multi", "event_channel_broadcast", "uuid_buglist"), nothing,
        "mod_commands.c, unsched_api_function, tone_detect_session_function and so on: a way out that prints nothing",
    ),
    Row(("vpx",), _either(usage, nothing), "switch_vpx.c, vpx_api_function"),
    Row(("sofia",), _sofia, "mod_sofia.c, sofia_function, cmd_status, cmd_xml_status, cmd_profile"),
    Row(("sofia_dig",), _sofia_dig, "sip-dig.c, sip_dig_function"),
    Row(("conference",), _conference, "conference_api.c, conference_api_main_real, conference_api_dispatch"),
    Row(("chat",), begins("Error! Message Not Sent", "Invalid"), "mod_dptools.c, chat_api_function"),
    Row(("presence",), begins("Invalid: presence"), "mod_dptools.c, presence_api_function"),
    Row(("db", "group"), exactly("!err!"), "mod_db.c, db_api_function, group_api_function"),
    Row(("expr",), exactly("!err!"), "mod_expr.c, expr_function"),
    Row(("hash_dump",), begins("Usage: "), "mod_hash.c, hash_dump_function"),
    Row(("fifo",), begins("no fifo by that name"), "mod_fifo.c, fifo_api_function"),
    Row(("lua",), _ends("-ERR Cannot execute script"), "mod_lua.cpp, lua_api_function"),
    Row(("local_stream",), _local_stream, "mod_local_stream.c, local_stream_function"),
    Row(("console", "xml_curl"), usage, "mod_console.c, console_api_function; mod_xml_curl.c, xml_curl_function"),
    Row(("event_sink",), begins("This is a web application!"), "mod_event_socket.c, event_sink_function"),
)  # fmt: skip

_JUDGES = {verb: row.judge for row in TABLE for verb in row.verbs}
