"""The switch itself: what is known of it, its global variables and modules, and the execution of API verbs.

Wires bus, workers and calls together. One `Switch` lives from start to stop; Core-UUID and Event-Sequence begin anew
with each.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock, local
from typing import Final, NamedTuple
from uuid import uuid4

from .bus import EventBus, Identity, Source
from .calls import Calls
from .channel import Channel
from .events import Headers
from .execution import Execution
from .interfaces import applications
from .originate import Originator
from .text import expand
from .workers import Workers

VERSION: Final = "1.10.12-release"
REVISION: Final = "git cc93a68 2026-08-21 14:10:14Z 64bit"
FULL_VERSION: Final = f"{VERSION}+git~20260821T141014Z~cc93a683ca~64bit"

_API: Final = Source("switch_loadable_module.c", "switch_api_execute", 2996)
_SHUTDOWN: Final = Source("switch_core.c", "switch_core_session_ctl", 2820)
_HEARTBEAT: Final = Source("switch_core.c", "send_heartbeat", 95)

MODULES: Final = (
    "mod_commands mod_conference mod_db mod_dialplan_xml mod_dptools mod_esf mod_event_socket mod_expr mod_fifo "
    "mod_hash mod_local_stream mod_loopback mod_sndfile mod_sofia mod_tone_stream mod_valet_parking"
).split()

Verb = Callable[["Switch", str], str]


class ApiResult(NamedTuple):
    """What a verb wrote, and whether there is such a verb."""

    output: str
    known: bool


class Switch:
    """A FreeSWITCH without media."""

    def __init__(self, verbs: Mapping[str, Verb], hostname: str = "switchsim") -> None:
        self.started = time.time()
        self.identity = Identity(core_uuid=str(uuid4()), hostname=hostname)
        self.bus = EventBus(self.identity)
        self.workers = Workers("switchsim")
        self.verbs = verbs
        self.variables = {
            "hostname": hostname,
            "local_ip_v4": self.identity.ipv4,
            "local_ip_v6": self.identity.ipv6,
            "domain": "127.0.0.1",
            "domain_name": "127.0.0.1",
            "switch_serial": "000000000000",
            "core_uuid": self.identity.core_uuid,
            "hold_music": "local_stream://moh",
            "sound_prefix": "/usr/share/freeswitch/sounds/en/us/callie",
        }
        self.modules = set(MODULES)
        self.api_calls: Counter[str] = Counter()
        self.paused: set[str] = set()
        """Directions in which no new channels are made: `fsctl pause`."""
        self.shutting_down = False
        self.max_sessions = 5000
        self.delays: dict[str, float] = {}
        """Seconds that a verb takes longer than it needs to."""
        self._lock = Lock()
        self._after = local()
        self.calls = Calls(self.bus, self.workers)
        self.execution = Execution(self.calls, self.expand_for, lambda name: name in applications(self.modules))
        self.originator = Originator(self.calls, self.execution, self.after_answer, self.takes_outbound)

    @property
    def uptime(self) -> float:
        return time.time() - self.started

    def stop(self) -> None:
        self.workers.stop()

    def takes_outbound(self) -> bool:
        """Whether a channel can be made (switch_core_session.c, switch_core_session_request_uuid)."""
        return "outbound" not in self.paused and len(self.calls.channels) < self.max_sessions

    def shut_down(self, how: str) -> None:
        """`fsctl shutdown elegant|asap|cancel`, as far as it does not end."""
        if how == "cancel":
            self.shutting_down = False
            self.paused.clear()
        elif how in ("elegant", "asap"):
            self.bus.fire("SHUTDOWN_REQUESTED", _SHUTDOWN, lambda: [("Event-Info", "ASAP" if how == "asap" else how)])
            self.shutting_down = True
            if how == "asap":
                self.paused |= {"inbound", "outbound"}

    # --- API verbs ---------------------------------------------------------------------------------------------

    def may_take_time(self, verb: str) -> bool:
        """Whether what was answered so far should be sent before this verb runs."""
        name = verb.strip().lower()
        return name in self.delays or name in ("originate", "msleep", "expand")

    def execute(self, verb: str, argument: str) -> ApiResult:
        """Runs a verb in the calling thread, and fires its API event once it is done (numbered when it began)."""
        verb, argument = verb.strip(), argument.strip()
        with self._lock:
            self.api_calls[verb] += 1
        stamp = self.bus.stamp()
        function = self.verbs.get(verb.lower())
        delay = self.delays.get(verb.lower(), 0.0)
        if delay:
            self.workers.pause(delay)
        output = function(self, argument) if function else f"-ERR {verb} Command not found!\n"
        self.bus.fire("API", _API, lambda: [("API-Command", verb), ("API-Command-Argument", argument)], stamp=stamp)
        return ApiResult(output, function is not None)

    def start_job(self, verb: str, argument: str, job: str, owner: str, source: Source) -> None:
        """Runs a verb in a thread of its own, and fires BACKGROUND_JOB with its output when it has ended."""

        def run() -> None:
            output = self.execute(verb, argument).output
            told: Headers = [
                ("Job-UUID", job),
                ("Job-Owner-UUID", owner),
                ("Job-Command", verb),
                ("Job-Command-Arg", argument),
            ]
            self.bus.fire("BACKGROUND_JOB", source, lambda: told, output)
            self.answered()

        self.workers.spawn(f"bgapi-{job}", run)

    def after_answer(self, job: Callable[[], None]) -> None:
        """Runs the job in the clock thread, but not before the answer to this thread's command is on its way.

        So a call's BACKGROUND_JOB comes before what the answered leg does next, as it does in FreeSWITCH.
        """
        if not hasattr(self._after, "jobs"):
            self._after.jobs = []
        self._after.jobs.append(job)

    def answered(self) -> None:
        """The answer is on its way."""
        jobs = getattr(self._after, "jobs", ())
        self._after.jobs = []
        for job in jobs:
            self.workers.later(0, job)

    # --- variables ---------------------------------------------------------------------------------------------

    def expand(self, text: str, variable: Callable[[str], str | None] = lambda name: None) -> str:
        """Replaces `${…}` from the given variables and the global ones, and by the output of API verbs."""

        def value(name: str) -> str:
            found = variable(name)
            return self.variables.get(name, "") if found is None else found

        def output(verb: str, argument: str) -> str:
            result = self.execute(verb, argument)
            return result.output if result.known else ""

        return expand(text, value, output)

    def expand_for(self, channel: Channel, text: str) -> str:
        return self.expand(text, channel.get) if "${" in text else text

    # --- heartbeat ---------------------------------------------------------------------------------------------

    def beat(self, seconds: float) -> None:
        """Fires HEARTBEAT now and every so many seconds."""
        self.bus.fire(
            "HEARTBEAT",
            _HEARTBEAT,
            lambda: [
                ("Event-Info", "System Ready"),
                ("Up-Time", self.up_time()),
                ("FreeSWITCH-Version", FULL_VERSION),
                ("Uptime-msec", str(int(self.uptime * 1000))),
                ("Session-Count", str(len(self.calls.channels))),
                ("Max-Sessions", str(self.max_sessions)),
                ("Session-Per-Sec", "1000"),
                ("Session-Per-Sec-Last", "0"),
                ("Session-Per-Sec-Max", "0"),
                ("Session-Per-Sec-FiveMin", "0"),
                ("Session-Since-Startup", str(self.calls.sessions)),
                ("Session-Peak-Max", str(self.calls.peak)),
                ("Session-Peak-FiveMin", str(self.calls.peak)),
                ("Idle-CPU", "98.000000"),
            ],
        )
        self.workers.later(seconds, lambda: self.beat(seconds))

    def up_time(self) -> str:
        """The uptime in words, down to the microsecond."""
        left = int(self.uptime * 1_000_000)
        words = []
        for unit, size in (
            ("year", 31_536_000_000_000),
            ("day", 86_400_000_000),
            ("hour", 3_600_000_000),
            ("minute", 60_000_000),
            ("second", 1_000_000),
            ("millisecond", 1_000),
            ("microsecond", 1),
        ):
            amount, left = divmod(left, size)
            words.append(f"{amount} {unit}{'' if amount == 1 else 's'}")
        return ", ".join(words)
