"""Which commands only ask: they change nothing, so any number of nodes may be given the same."""

from __future__ import annotations

# Verbs that change nothing and fire nothing but their API event, so FreeSWITCH may be asked twice (mod_commands.c).
READING = frozenset({
    "acl", "conference list", "conference json_list", "conference xml_list", "create_uuid", "domain_exists", "echo",
    "eval", "global_getvar", "hostname", "is_lan_addr", "list_users", "md5", "module_exists", "regex", "show",
    "status", "strepoch", "strftime", "strftime_tz", "switchname", "uptime", "url_decode", "url_encode", "user_data",
    "user_exists", "uuid_dump", "uuid_exists", "uuid_getvar", "version",
})  # fmt: skip
# `eval` runs what its argument names: `${originate(…)}`.
ASKING = (READING | {"agent.status", "dialplan.status"}) - {"eval"}


def only_asks(command: str, args: object) -> bool:
    """The same with regard to the arguments: `sofia` does much, `sofia status` tells."""
    name = command.lower()
    if name == "sofia":
        return isinstance(args, str) and args.split(None, 1)[:1] in (["status"], ["xmlstatus"], ["jsonstatus"])
    return name in ASKING


def is_question(command: object) -> bool:
    """Whether a request with this command only asks, whatever its arguments are."""
    return isinstance(command, str) and command.lower() in ASKING
