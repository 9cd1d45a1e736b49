"""Which commands only ask: they change nothing, so any number of nodes may be given the same."""

from __future__ import annotations

# Verbs that change nothing and fire nothing but their API event, so FreeSWITCH may be asked twice, and the function of
# FreeSWITCH 1.10.12 that serves each: in mod_commands.c, with "dptools:" in mod_dptools.c, with "conference:" in
# conference_api.c. `show status…` runs a verb whose name begins so; `status` is the only one that FreeSWITCH has.
READING = {
    "acl": "acl_function", "conference json_list": "conference:conference_api_sub_json_list",
    "conference list": "conference:conference_api_sub_list",
    "conference xml_list": "conference:conference_api_sub_xml_list", "create_uuid": "uuid_function",
    "domain_exists": "domain_exists_function", "echo": "echo_function", "eval": "eval_function",
    "global_getvar": "global_getvar_function", "hostname": "hostname_api_function", "is_lan_addr": "lan_addr_function",
    "list_users": "list_users_function", "md5": "md5_function", "module_exists": "module_exists_function",
    "regex": "regex_function", "show": "show_function", "status": "status_function",
    "strepoch": "dptools:strepoch_api_function", "strftime": "dptools:strftime_api_function",
    "strftime_tz": "strftime_tz_api_function", "switchname": "switchname_api_function", "uptime": "uptime_function",
    "url_decode": "url_decode_function", "url_encode": "url_encode_function", "user_data": "user_data_function",
    "user_exists": "user_exists_function", "uuid_dump": "uuid_dump_function", "uuid_exists": "uuid_exists_function",
    "uuid_getvar": "uuid_getvar_function", "version": "version_function",
}  # fmt: skip
# They may run side by side (`lanes_read`). Not `eval`: it expands what it is given, and that can be anything.
BESIDE = frozenset(READING) - {"eval"}
# Of these, the answer hangs on nothing that changes by itself.
TIMELESS = frozenset({
    "acl", "create_uuid", "echo", "hostname", "is_lan_addr", "md5", "regex", "switchname", "url_decode", "url_encode",
    "version",
})  # fmt: skip
# And of these on the one thing that they name, say a user. The others are of a channel, or of the switch as a whole.
OF_ONE = frozenset({
    "domain_exists", "global_getvar", "list_users", "module_exists", "user_data", "user_exists",
})  # fmt: skip
# `eval` runs what its argument names: `${originate(…)}`.
ASKING = (frozenset(READING) | {"agent.status", "dialplan.status"}) - {"eval"}


def only_asks(command: str, args: object) -> bool:
    """The same with regard to the arguments: `sofia` does much, `sofia status` tells."""
    name = command.lower()
    if name == "sofia":
        return isinstance(args, str) and args.split(None, 1)[:1] in (["status"], ["xmlstatus"], ["jsonstatus"])
    return name in ASKING


def is_question(command: object) -> bool:
    """Whether a request with this command only asks, whatever its arguments are."""
    return isinstance(command, str) and command.lower() in ASKING
