"""API verbs about calls: originate, the uuid_… family, hupall."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from .api import verb
from .bus import Source
from .channel import Channel
from .events import Event, Headers, header_value, to_text
from .names import cause
from .originate import Order
from .switch import Switch
from .text import separate

NO_CHANNEL: Final = "-ERR No such channel!\n"

_DUMP: Final = Source("mod_commands.c", "uuid_dump_function", 6493)


def _usage(text: str) -> str:
    return f"-USAGE: {text}\n"


@verb("originate")
def originate(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=10)
    if not 2 <= len(words) <= 7:
        return _usage(
            "<call url> <exten>|&<application_name>(<app_args>) [<dialplan>] [<context>] [<cid_name>] [<cid_num>] "
            "[<timeout_sec>]"
        )
    given = ["" if word.lower() == "undef" else word for word in words] + [""] * 5
    seconds = re.match(r"\d+", given[6])
    order = Order(
        dial_string=given[0],
        destination=given[1],
        dialplan=given[2] or "XML",
        context=given[3] or "default",
        caller_name=given[4],
        caller_number=given[5],
        timeout=float(seconds[0]) if seconds else 60.0,
    )
    done, text = switch.originator.originate(order, switch.expand)
    return f"+OK {text}\n" if done else f"-ERR {text}\n"


@verb("hupall")
def hupall(switch: Switch, argument: str) -> str:
    words = separate(argument)
    reason = cause(words[0]) if words and cause(words[0]) != "NONE" else "MANAGER_REQUEST"
    wanted = dict(zip(words[1::2], words[2::2], strict=False))
    for channel in switch.calls.all():
        if all(channel.get(name) == value for name, value in wanted.items()):
            switch.calls.hangup(channel, reason)
    if not wanted:
        return f"+OK hangup all channels with cause {reason}\n"
    more = "..." if len(wanted) > 1 else ""
    return f"+OK hangup all channels matching [{words[1]}]=[{words[2]}]{more} with cause: {reason}\n"


@verb("uuid_kill")
def uuid_kill(switch: Switch, argument: str) -> str:
    if not argument:
        return _usage("<uuid> [cause]")
    uuid, _, reason = argument.partition(" ")
    channel = switch.calls.find(uuid)
    if channel is None:
        return NO_CHANNEL
    switch.calls.hangup(channel, cause(reason) if reason else "NORMAL_CLEARING")
    return "+OK\n"


@verb("uuid_exists")
def uuid_exists(switch: Switch, argument: str) -> str:
    return "true" if switch.calls.find(argument) else "false"


@verb("uuid_getvar")
def uuid_getvar(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=4)
    if len(words) < 2 or not words[0]:
        return _usage("<uuid> <var>")
    channel = switch.calls.find(words[0])
    if channel is None:
        return NO_CHANNEL
    indexed = re.fullmatch(r"(.*)\[(\d+)\]", words[1])
    if indexed:
        values = channel.variables.get(indexed[1])
        if isinstance(values, list) and int(indexed[2]) < len(values):
            return values[int(indexed[2])]
    found = channel.get(words[1])
    return "_undef_" if found is None else found


@verb("uuid_setvar")
def uuid_setvar(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=3)
    if len(words) < 2 or not words[0]:
        return _usage("<uuid> <var> [value]")
    channel = switch.calls.find(words[0])
    if channel is None:
        return NO_CHANNEL
    with switch.calls.lock:
        channel.set(words[1], header_value(words[2]) if len(words) > 2 else None)
    return "+OK\n"


@verb("uuid_setvar_multi")
def uuid_setvar_multi(switch: Switch, argument: str) -> str:
    uuid, _, pairs = argument.partition(" ")
    if not pairs:
        return _usage("<uuid> <var>=<value>;<var>=<value>...")
    channel = switch.calls.find(uuid)
    if channel is None:
        return NO_CHANNEL
    with switch.calls.lock:
        for pair in separate(pairs, ";"):
            name, _, value = pair.partition("=")
            channel.set(name, header_value(value))
    return "+OK\n"


@verb("uuid_transfer")
def uuid_transfer(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=5)
    channel = switch.calls.find(words[0]) if words else None
    if len(words) < 2:
        return _usage("<uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]")
    if channel is None:
        return NO_CHANNEL
    legs: list[Channel | None] = [channel]
    if words[1].startswith("-"):
        option = words.pop(1)[1:].lower()
        legs = [channel.bridged or channel] if option == "bleg" else [channel.bridged, channel]
    destination, dialplan, context = [*words[1:], "", "", ""][:3]
    if len(legs) == 2:  # both are sent away: the bridge must not hang up the other leg
        with switch.calls.lock:
            switch.calls.unbridge(channel, hang_up_peer=False)
    for leg in filter(None, legs):
        switch.after_answer(partial(switch.execution.transfer, leg, destination, dialplan, context))
    return "+OK\n"


@verb("uuid_bridge")
def uuid_bridge(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=4)
    if len(words) < 2:
        return _usage("<uuid> <other_uuid>")
    channel = switch.calls.find(words[0])
    for other in words[1:3]:
        peer = switch.calls.find(other)
        if channel is not None and peer is not None and switch.calls.bridge(channel, peer):
            return f"+OK {other}\n"
    return "-ERR Invalid uuid\n"


@verb("uuid_broadcast")
def uuid_broadcast(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=4)
    if len(words) < 2:
        return _usage("<uuid> <path> [aleg|bleg|holdb|both]")
    channel = switch.calls.find(words[0])
    if channel is None:
        return "-ERR invalid uuid\n"
    application, separator, path = words[1].partition("::")
    if not separator:
        application, path = "playback", words[1]
    application, _, reason = application.partition("!")
    legs = words[2].lower() if len(words) > 2 else "aleg"
    command: Headers = [
        ("call-command", "execute"),
        ("execute-app-name", application),
        ("execute-app-arg", path),
        ("event-lock", "true"),
        ("lead-frames", "5"),
    ]
    if ("bleg" in legs or "both" in legs) and channel.bridged:
        switch.execution.private_command(channel.bridged, command)
    if "aleg" in legs or "both" in legs:
        switch.execution.private_command(channel, command)
    if reason:
        hangup: Headers = [("call-command", "hangup"), ("hangup-cause", reason)]
        switch.execution.private_command(channel, hangup)
    return "+OK Message sent\n"


@verb("uuid_break")
def uuid_break(switch: Switch, argument: str) -> str:
    if not argument:
        return _usage("<uuid> [all]")
    channel = switch.calls.find(argument.partition(" ")[0])
    if channel is None:
        return NO_CHANNEL
    switch.execution.break_off(channel)
    return "+OK\n"


@verb("uuid_recv_dtmf")
def uuid_recv_dtmf(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=2)
    if len(words) < 2:
        return _usage("<uuid> <dtmf_data>")
    channel = switch.calls.find(words[0])
    if channel is None:
        return "-ERR Cannot locate session!\n"
    switch.execution.dtmf(channel, words[1].partition("@")[0])
    return f"+OK {words[0]} received DTMF {words[1]}.\n"


@verb("uuid_park")
def uuid_park(switch: Switch, argument: str) -> str:
    channel = switch.calls.find(argument)
    if channel is None:
        return NO_CHANNEL
    switch.execution.private_command(channel, [("call-command", "execute"), ("execute-app-name", "park")])
    return "+OK\n"


@verb("uuid_answer")
def uuid_answer(switch: Switch, argument: str) -> str:
    channel = switch.calls.find(argument)
    if channel is None:
        return NO_CHANNEL
    switch.calls.answer(channel)
    return "+OK\n"


@verb("uuid_dump")
def uuid_dump(switch: Switch, argument: str) -> str:
    words = separate(argument, limit=2)
    if not words:
        return _usage("<uuid> [format]")
    channel = switch.calls.find(words[0])
    if channel is None:
        return NO_CHANNEL
    form = words[1].lower() if len(words) > 1 else "txt"
    with switch.calls.lock:
        base = switch.bus.base_headers("CHANNEL_DATA", _DUMP, switch.bus.stamp())
        event = Event("CHANNEL_DATA", [*base, *channel.headers("CHANNEL_DATA")])
    if form in ("json", "xml"):
        return to_text(event.json() if form == "json" else event.xml())
    return to_text(event.plain(encode=form != "plain"))
