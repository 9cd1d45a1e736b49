"""The one table of settings: what each is called, which values it takes, its default, its help.

`Settings` declares every param once. The configuration reader, `--check`, `--help-config`, the man page and the
shipped file are all made from this table, in render.py, so a new param is one new field here.

Values are read by a `Kind`: text in, typed value out, ValueError when it won't do. No file is opened here and no
secret leaves through a repr, a fault text or `Param.show`. Pure values: any thread may hold a Settings.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

T = TypeVar("T")

DRIVERS = ("nats",)
MASK = "********"
MAX_URLS = 16
MAX_PREFIX = 64
MAX_HEADERS = 256  # names in a list of what events carry

# Python has no "notice": it becomes info, because showing a line too many is better than hiding one.
_LOG_LEVELS = {
    "debug": "debug", "info": "info", "notice": "info", "warning": "warning", "warn": "warning", "error": "error",
    "err": "error", "critical": "critical", "crit": "critical", "alert": "critical", "console": "critical",
}

# The words of FreeSWITCH's switch_true() and switch_false().
_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1", "t", "enabled", "active", "allow"), True)
_BOOLEANS |= dict.fromkeys(("false", "no", "off", "0", "f", "disabled", "inactive", "disallow"), False)

# Control characters, line separators, and lone surrogates (bytes of the environment that were no UTF-8).
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_KEY = re.compile(r"[A-Za-z0-9._~-]{0,128}", re.ASCII)  # what needs no escaping in a URL
_HEADER = re.compile(r"[#-)+.-\[\]-~-]*\*?")  # ASCII without blank, quote, backslash, comma, '!'; '*' is the last
_INTEGER = re.compile(r"[+-]?\d{1,15}", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(\.\d{0,15})?|\.\d{1,15}", re.ASCII)
_HOST = r"\[[0-9A-Fa-f:.]+\]|[\w.-]+"
_USER = r"(?!:)(?:[^\s/?#%\[\]]|%[0-9A-Fa-f]{2})+"
_URL = re.compile(rf"(?:(nats|tls)://)?(?:({_USER})@)?({_HOST})(?::(\d{{1,5}}))?/?", re.ASCII | re.IGNORECASE)
_ENDPOINT = re.compile(rf"({_HOST}):(\d{{1,5}})", re.ASCII)


def masked_url(url: str) -> str:
    """`url` with its password, or its token, masked: for logs. Never raises, and hides too much of a broken URL."""
    scheme, mark, rest = url.strip().partition("://")
    if not mark or not scheme.isalnum():
        scheme, mark, rest = "", "", url.strip()
    user, at, host = rest.rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        user = name + ":" + MASK if colon else MASK
    # What stands where a port should may be the first half of a password that holds a comma.
    if not re.fullmatch(r"(\[[^\]@]*\]|[^:/?#]*)(:\d{1,5})?/?", host):
        host = re.split("[:/?#]", host, maxsplit=1)[0] + ":" + MASK
    return scheme + mark + user + at + host


def shown(text: str) -> str:
    """`text` quoted for a message: on one line, escaped, at most some 100 characters."""
    return repr(text if len(text) <= 100 else text[:97] + "...")


def closest(word: str, known: Iterable[str]) -> str:
    """The one of `known` most like `word`."""
    from difflib import get_close_matches  # only a typing mistake needs it, so a good start does not pay for it

    return get_close_matches(word, list(known), n=1, cutoff=0.0)[0]


# --- kinds: how a text becomes a value. A reader raises ValueError with the part of the text that is wrong. ---


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One type of value. `allowed` is a sentence part for help and faults; {low}, {high} and {unit} are filled in."""

    read: Callable[[str], T]
    allowed: str
    write: Callable[[T], str] = str
    choices: tuple[str, ...] = ()
    raw: bool = False  # blanks at the ends are part of the value


def _text(text: str) -> str:
    return text  # Param.read has refused what no text may hold


def _matching(pattern: re.Pattern[str], convert: Callable[[str], T]) -> Callable[[str], T]:
    def read(text: str) -> T:
        if not pattern.fullmatch(text):
            raise ValueError(shown(text))
        return convert(text)

    return read


def _word(words: Mapping[str, T]) -> Callable[[str], T]:
    def read(text: str) -> T:
        if text.lower() not in words:
            raise ValueError(shown(text))
        return words[text.lower()]

    return read


def _key(text: str) -> str:
    """The word `auto` in any case; `off` is empty, which the environment can't say otherwise."""
    return {"auto": "auto", "off": ""}.get(text.lower(), text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in map(str.strip, text.split(",")) if name)
    for name in names:
        if name.split() != [name]:
            raise ValueError(shown(name))
    return names


def _headers(text: str) -> tuple[str, ...]:
    """Names, or beginnings of names with `*`; `none` alone."""
    names = tuple(dict.fromkeys(name for name in map(str.strip, text.split(",")) if name))
    if len(names) > MAX_HEADERS:
        raise ValueError(f"{len(names)} of them")
    if len(names) == 1 and names[0].lower() == "none":
        return ("none",)
    for name in names:
        if not _HEADER.fullmatch(name) or name.lower() == "none":
            raise ValueError(shown(name))
    return names


def _fields(text: str) -> tuple[str, ...]:
    names = _headers(text)
    for name in names:
        if name.startswith("variable_"):
            raise ValueError(f"{shown(name)}, which belongs in event_variables")
    return names


def _variables(text: str) -> tuple[str, ...]:
    """As channel variables are called, or with the `variable_` that they have in events."""
    names = tuple(name.removeprefix("variable_") for name in _headers(text))
    if "" in names:
        raise ValueError(shown("variable_"))
    return names


def _is_host(text: str) -> bool:
    """Whether `text` is a host name, an IPv4 address, or an IPv6 one in brackets."""
    if not (text.startswith("[") and text.endswith("]")):
        return re.fullmatch(r"[\w.-]+", text, re.ASCII) is not None
    try:
        socket.inet_pton(socket.AF_INET6, text[1:-1])
    except OSError:
        return False
    return True


def _host(text: str) -> str:
    """A host; IPv6 with or without brackets, returned without."""
    if not _is_host(f"[{text}]" if ":" in text and "[" not in text else text):
        raise ValueError(shown(text))
    return text.strip("[]")


def _endpoint(text: str) -> tuple[str, int] | None:
    if text.lower() in ("", "off"):
        return None
    match = _ENDPOINT.fullmatch(text)
    if not match or not _is_host(match[1]) or not 1 <= int(match[2]) <= 65535:
        raise ValueError(shown(text))
    return match[1].strip("[]"), int(match[2])


def _write_endpoint(value: tuple[str, int] | None) -> str:
    if value is None:
        return ""
    host, port = value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _group(text: str) -> tuple[str, int] | None:
    """An IPv4 multicast group and a port."""
    found = _endpoint(text)
    if found is not None and not re.fullmatch(r"(22[4-9]|23\d)(\.\d{1,3}){3}", found[0], re.ASCII):
        raise ValueError(shown(text))
    if found is not None:
        try:
            socket.inet_aton(found[0])
        except OSError:
            raise ValueError(shown(text)) from None
    return found


def _url(text: str) -> str:
    """One broker URL with scheme and port filled in; user, password and token stay percent-encoded."""
    match = _URL.fullmatch(text)
    scheme, user, host, port = match.groups("") if match else ("", "", "", "")
    if not _is_host(host) or not 1 <= int(port or 4222) <= 65535:
        slip = _slip(text)
        raise ValueError(shown(masked_url(text)) + (slip and f" ({slip})"))
    return f"{(scheme or 'nats').lower()}://{user + '@' if user else ''}{host}:{int(port or 4222)}"


def _slip(text: str) -> str:
    """What is most likely wrong with a URL, beside what it must be; "" if nothing is known. Nothing of it is shown."""
    if any(map(str.isspace, text)):
        return "there is a blank in it; several are separated by commas"
    scheme, mark, rest = text.partition("://")
    if not mark and re.match(r"(nats|tls):/?[^/]", text, re.IGNORECASE):
        return "two slashes follow the colon, nats://"
    if mark and scheme.lower() not in ("nats", "tls"):
        return "the scheme is neither nats:// nor tls://"
    host, _, path = (rest if mark else text).rpartition("@")[2].partition("/")
    if path:
        return "nothing follows the port"
    port = host.rpartition(":")[2]
    if port != host and port.isdecimal() and not (len(port) < 6 and 1 <= int(port) <= 65535):
        return "there is no such port"
    return ""


def _urls(text: str) -> tuple[str, ...]:
    parts = [part for part in map(str.strip, text.split(",")) if part]
    if not 1 <= len(parts) <= MAX_URLS:
        raise ValueError(f"{len(parts)} of them")
    # Most likely a password that holds a comma: read on, and half of it would be shown as a host or a user.
    if "@" in text and len({re.match(r"\w+://", part) is None for part in parts}) > 1:
        raise ValueError("a list in which only some have a scheme (a comma in a password is %2C)")
    return tuple(_url(part) for part in parts)


def _prefix(text: str) -> str:
    """A subject prefix, mended as mod_event_agent does: other characters become `_`, the rest is cut off.

    Dots that would make an empty token (first, last, double) are dropped as well, because the broker takes no
    such subject. The caller warns when the result differs. Only a prefix of which nothing is left is refused.
    """
    mended = re.sub(r"[^a-zA-Z0-9._-]", "_", text)[:MAX_PREFIX]
    mended = re.sub(r"\.{2,}", ".", mended).strip(".")
    if not mended:
        raise ValueError(shown(text))
    return mended


def _choice(words: Mapping[str, str]) -> Kind[str]:
    """One of `words`, in any case; each stands for its value."""
    names = tuple(dict.fromkeys(words.values()))
    return Kind(_word(words), " or ".join(filter(None, (", ".join(names[:-1]), names[-1]))), choices=names)


TEXT = Kind(_text, "text of {low} to {high} characters without control characters", raw=True)
INTEGER = Kind(_matching(_INTEGER, int), "a whole number from {low} to {high}")
COUNT = Kind(_matching(_INTEGER, int), "a whole number of {unit} from {low} to {high}")
NUMBER = Kind(_matching(_NUMBER, float), "a number of {unit} from {low} to {high}", write="{:.15g}".format)
BOOLEAN = Kind(_word(_BOOLEANS), "true or false", write=lambda value: "true" if value else "false")
NAMES = Kind(_names, "names separated by commas, without blanks inside", write=",".join)
_PATTERNS = f"none, or up to {MAX_HEADERS} names separated by commas, each with '*' at its end or not"
FIELDS = Kind(_fields, _PATTERNS, write=",".join)
VARIABLES = Kind(_variables, _PATTERNS, write=",".join)
KEY = Kind(_matching(_KEY, _key), "auto, off or empty, or up to 128 letters, digits, '.', '_', '~' and '-'")
HOST = Kind(_host, "a host name or an address")
ENDPOINT = Kind(_endpoint, "host:port with a port from 1 to 65535, IPv6 in brackets, or empty", write=_write_endpoint)
GROUP = Kind(_group, "group:port, an address from 224.0.0.0 to 239.255.255.255 and a port, or empty",
             write=_write_endpoint)
URLS = Kind(_urls, f"1 to {MAX_URLS} URLs separated by commas, each nats:// or tls://, then host:port or user:password@"
            "host:port or token@host:port, IPv6 in brackets, other special characters percent-encoded",
            write=",".join)
PREFIX = Kind(_prefix, f"at most {MAX_PREFIX} characters of a-z, A-Z, 0-9, '.', '_' and '-', with no empty part "
              "between dots")
FILE = Kind(_text, "a file that can be read")
FOLDER = Kind(_text, "a folder")
DRIVER = _choice({name: name for name in DRIVERS})
LOG_LEVEL = _choice(_LOG_LEVELS)
LOG_FORMAT = _choice({name: name for name in ("text", "json")})
AUDIT = _choice({name: name for name in ("all", "changes", "errors", "off")})
DELIVERY = _choice({name: name for name in ("at_most_once", "at_least_once")})
LANES = _choice({name: name for name in ("all", "verbs")})
SPOOL_MODE = _choice({name: name for name in ("overflow", "always")})
SPOOL_SYNC = _choice({name: name for name in ("interval", "always", "off")})


# --- the table ---


@dataclass(frozen=True)
class Param:
    """One line of the table. `low` and `high` bound a number, or the length of a text; both ends are allowed."""

    kind: Kind[Any]
    default: Any
    help: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    unit: str = ""
    secret: bool = False
    reload: bool = False  # a SIGHUP changes it without losing a connection or an event
    section: str = ""  # heads a group in the shipped file
    shipped: str = ""  # the value in the shipped file, if it is not the default
    example: str = ""  # shown commented out in the shipped file, if the default is empty

    @property
    def allowed(self) -> str:
        return self.kind.allowed.format(low=self.low, high=self.high, unit=self.unit)

    def read(self, text: str) -> Any:
        """The value `text` stands for. ValueError holds the whole message, never a secret."""
        text = text if self.kind.raw else text.strip()
        try:
            # A prefix is mended, not refused, whatever it holds.
            if self.kind is not PREFIX and _UNFIT.search(text):
                raise ValueError("one with control characters or characters that are not UTF-8")
            value = self.kind.read(text)
            size = len(value) if isinstance(value, str) else value
            if self.low is not None and self.high is not None and not self.low <= size <= self.high:
                raise ValueError(shown(text))
        except ValueError as wrong:
            message = f"{self.name} must be {self.allowed}, not {wrong}"
            if self.secret:
                message = f"{self.name} must be {self.allowed}"
            if self.kind.choices:
                message += f" (the closest is {closest(text.lower(), self.kind.choices)})"
            raise ValueError(message) from None
        return value

    def write(self, value: Any) -> str:
        """The text that `read` makes `value` of, secrets and all."""
        return self.kind.write(value)

    def show(self, value: Any) -> str:
        """As `write`, for eyes and logs: secrets and the passwords in URLs are masked."""
        if self.secret:
            return MASK if value else ""
        return self.write(tuple(map(masked_url, value)) if self.kind is URLS else value)


def param(kind: Kind[T], default: T, help: str, **rest: Any) -> T:
    """A field of Settings; `rest` as in Param. Typed as the value, so that attributes are."""
    return field(default=default, metadata={"param": Param(kind, default, help, **rest)})


@dataclass(frozen=True, repr=False)
class Settings:
    """Every setting, typed and checked. Durations are in seconds, sizes in bytes, texts are empty when not set."""

    driver: str = param(DRIVER, "nats", "The message broker's driver.", section="Message broker")
    url: tuple[str, ...] = param(
        URLS, ("nats://127.0.0.1:4222",), "The broker, or up to 16 of one cluster, separated by commas.",
        aliases=("host",), example="nats://$${nats_host}:$${nats_port}")
    subject_prefix: str = param(PREFIX, "freeswitch", "First part of every subject; other characters become '_'.")
    node_id: str = param(
        TEXT, "", "This node's name, for its own command lane and in every reply and event. Empty: no such lane.",
        low=0, high=255, shipped="$${hostname}")
    token: str = param(
        TEXT, "", "DEPRECATED in this file, use the environment: token for the broker.",
        low=0, high=8192, secret=True)
    nkey_seed: str = param(
        TEXT, "", "DEPRECATED in this file, use the environment: NKey seed for the broker.",
        aliases=("nkey",), low=0, high=8192, secret=True)
    creds: str = param(FILE, "", "File with user JWT and seed for the broker.", example="/etc/event-agent/user.creds")
    tls_ca: str = param(
        FILE, "", "For tls:// URLs: file with the authorities to trust. Empty: the system's.",
        example="/etc/event-agent/ca.pem")
    tls_cert: str = param(
        FILE, "", "For tls:// URLs: file with our own certificate; needs tls_key.",
        example="/etc/event-agent/cert.pem")
    tls_key: str = param(
        FILE, "", "For tls:// URLs: file with the key of tls_cert.", example="/etc/event-agent/key.pem")
    tls_verify: bool = param(BOOLEAN, True, "For tls:// URLs: check the broker's certificate and name.")
    max_reconnect: int = param(
        INTEGER, -1, "Tries to reach the broker again before giving up; -1 is without end.", low=-1, high=1_000_000_000)
    reconnect_wait: float = param(
        NUMBER, 1.0, "Wait between two tries; some jitter is added.", unit="seconds", low=0.01, high=3600)
    reconnect_buf_size: int = param(
        COUNT, 8388608, "Room for events while the broker is away; what does not fit is counted and dropped.",
        unit="bytes", low=1024, high=1 << 30)
    ping_interval: float = param(
        NUMBER, 30.0, "How often the broker is asked for a sign of life.", unit="seconds", low=0.1, high=3600)
    ping_timeout: float = param(
        NUMBER, 5.0, "The link ends if the broker has not given its sign of life by then. While something is sent it is"
        " asked every second.", unit="seconds", low=0.1, high=3600)
    ignore_discovered: bool = param(
        BOOLEAN, False, "Use only the servers in url, and not those that the cluster advertises (behind NAT, say).")
    discovery: bool = param(
        BOOLEAN, True, "Be found by `nats micro` and other tools: answer $SRV.PING, $SRV.INFO and $SRV.STATS.")

    publish_all_events: bool = param(
        BOOLEAN, True, "Publish every event that the two lists below let through; false: only those in include.",
        section="Events", reload=True)
    include: tuple[str, ...] = param(
        NAMES, (), "Only these events; a name with '::' is a CUSTOM subclass. Empty: all.",
        aliases=("include_events",), example="CHANNEL_CREATE,CHANNEL_ANSWER,sofia::register", reload=True)
    exclude: tuple[str, ...] = param(
        NAMES, (), "Not these events; wins over include. The shipped file names API, which every command fires.",
        aliases=("exclude_events",), shipped="DTMF,HEARTBEAT,API", reload=True)
    event_fields: tuple[str, ...] = param(
        FIELDS, (), "Headers that an event carries, by name or by its beginning (Caller-*); case counts. Empty: all."
        " The headers that identify the event always stay.", example="Caller-*,Call-Direction,Application*",
        reload=True)
    event_variables: tuple[str, ...] = param(
        VARIABLES, (), "Channel variables that an event carries, likewise. Empty: all; none: no variables.",
        example="sip_call_id,sip_h_X-*", reload=True)

    esl_host: str = param(HOST, "127.0.0.1", "FreeSWITCH's event socket.", section="FreeSWITCH")
    esl_port: int = param(INTEGER, 8021, "Port of FreeSWITCH's event socket.", low=1, high=65535)
    esl_password: str = param(TEXT, "ClueCon", "Password of FreeSWITCH's event socket.", low=1, high=255, secret=True)
    event_wake_ms: float = param(
        NUMBER, 2.0, "How often a busy event connection is nudged; 0 is never.", unit="milliseconds", low=0, high=1000)
    event_wake_multicast: tuple[str, int] | None = param(
        GROUP, None, "Group and port to which mod_event_multicast sends (etc/freeswitch): events come at once, without"
        " nudges.", example="239.255.0.7:4242")

    events_delivery: str = param(
        DELIVERY, "at_most_once", "at_least_once: a JetStream stream stores and acknowledges each event.",
        section="Delivery of events")
    stream: str = param(
        TEXT, "", "The stream that must take the events; empty: whichever has their subjects.", low=0, high=255,
        example="events")
    event_ack_timeout: float = param(
        NUMBER, 5.0, "An event that is not acknowledged by then is sent again.", unit="seconds", low=0.1, high=600)
    event_max_pending: int = param(
        COUNT, 4000, "Events that may be sent ahead of their acknowledgement.", low=1, high=100_000)
    event_buffer_size: int = param(
        COUNT, 4194304, "Room in memory for events that wait; beyond it they go to disk.", unit="bytes", low=65536,
        high=1 << 30)
    spool_dir: str = param(
        TEXT, "", "Folder for events on disk; empty: spool in state_dir.", low=0, high=4096,
        example="/var/spool/event-agent")
    spool_max_bytes: int = param(
        COUNT, 268435456, "Room on disk for events; 0: nothing is kept on disk.", unit="bytes", low=0, high=1 << 50)
    spool_mode: str = param(
        SPOOL_MODE, "overflow", "overflow: to disk what memory does not hold; always: each event before it is sent.")
    spool_sync: str = param(
        SPOOL_SYNC, "interval", "When the disk has to confirm what was written: each second, at each write, or not.")

    cdr: bool = param(
        BOOLEAN, False, "Publish a record of each channel that has ended, on <prefix>.cdr.<node>.",
        section="Call records")
    cdr_variables: tuple[str, ...] = param(
        NAMES, (), "Channel variables that stand in each record.", example="sip_call_id,ticket", reload=True)

    lanes: str = param(
        LANES, "all",
        "all: commands are taken with and without the command in the subject; verbs: only with it there.",
        section="Lanes")
    call_lanes: bool = param(
        BOOLEAN, True, "Take requests for one channel on <prefix>.call.<uuid>; NATS subscriptions for each channel.")

    command_timeout: float = param(
        NUMBER, 30.0, "A command that FreeSWITCH has not answered by then is answered with an error.",
        unit="seconds", low=0.1, high=3600, section="Commands")
    workers: int = param(
        INTEGER, 8, "Slow commands of one verb that can run at a time; of all verbs, twice as many.", low=1, high=256)
    lanes_read: int = param(
        INTEGER, 0, "Connections on which commands that only read may run side by side; 0, 1: all in turn on one.",
        low=0, high=16)
    command_awake_us: int = param(
        COUNT, 500, "How long to stay awake for a client that sends each command upon the last one's answer; 0: sleep.",
        unit="microseconds", low=0, high=1000)
    api_denylist: tuple[str, ...] = param(
        NAMES, (), "Commands that are refused.", example="fsctl,shutdown,system,bg_system", reload=True)
    api_allowlist: tuple[str, ...] = param(
        NAMES, (), "The only commands taken. Empty: all that are not refused.",
        example="status,show,originate,hangup", reload=True)
    app_denylist: tuple[str, ...] = param(
        NAMES, (), "Dialplan applications refused in execute_app and as originate's destination.",
        example="system,bgsystem", reload=True)

    http_listen: tuple[str, int] | None = param(
        ENDPOINT, ("127.0.0.1", 8092),
        "Where /health and /metrics are, and where mod_xml_curl asks for the dialplan; 'off' or empty is none.",
        aliases=("dialplan_listen",), section="HTTP listener and dialplan control")
    dialplan_key: str = param(
        KEY, "",
        "Secret that mod_xml_curl's URL must have (…/dialplan?key=…); auto: made once, kept in state_dir; off: none.",
        secret=True, shipped="auto")
    heartbeat: float = param(
        NUMBER, 20.0, "How often the node says how much its FreeSWITCH has to do (events.agent.heartbeat); 0 is never.",
        unit="seconds", low=0, high=3600, section="This program")
    state_dir: str = param(
        FOLDER, "/var/lib/event-agent", "What must outlast a restart is kept in this folder. Empty: nothing is kept.")
    log_level: str = param(
        LOG_LEVEL, "info", "How much is logged; FreeSWITCH's names are understood.", reload=True)
    log_format: str = param(LOG_FORMAT, "text", "text, or one JSON object a line.", reload=True)
    audit: str = param(
        AUDIT, "all", "Which commands leave a line in the log: all; changes: not those that only ask; errors; off.",
        shipped="changes", reload=True)
    slow_log: float = param(
        NUMBER, 0.0, "A command that takes longer leaves a line that says where it waited; 0 is none.", unit="seconds",
        low=0, high=3600, reload=True)

    @property
    def spool_folder(self) -> str:
        """Where events wait on disk; empty if they do not."""
        return (self.spool_dir or f"{self.state_dir}/spool") if self.spool_max_bytes else ""

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={p.show(getattr(self, name))!r}' for name, p in PARAMS.items())})"


PARAMS: Mapping[str, Param] = {f.name: replace(f.metadata["param"], name=f.name) for f in fields(Settings)}
_BY_NAME = {name: p for p in PARAMS.values() for name in (p.name, *p.aliases)}


def find(name: str) -> Param | None:
    """The param called `name`, or by an alias; `-` is `_` and case is ignored. None when there is no such param."""
    return _BY_NAME.get(name.lower().replace("-", "_"))


def closest_name(name: str) -> str:
    """The param's name or alias most like `name`, which is not one."""
    return closest(name.lower().replace("-", "_"), _BY_NAME)
