"""Dialplan control as one part: the choices, the calls parked, and a thread for what may take a while.

Threads: `http` answers FreeSWITCH, `dialplan` writes state and asks FreeSWITCH what has to be asked, commands come on
the broker's. A choice is in force at once; its reply leaves when it is on disk and events of parked calls are
subscribed to.

FreeSWITCH is asked nothing until park mode is used: its mod_xml_curl may be bound to somebody else's server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from event_agent.dialplan.answers import NOT_FOUND, PROBE, read_params, write_extension, write_probe
from event_agent.dialplan.binding import BOUND, Binding
from event_agent.dialplan.choices import Extension, Manager, Store
from event_agent.dialplan.parked import EVENTS, ParkedCalls, Send
from event_agent.dialplan.router import Router
from event_agent.dialplan.routing import Decision, Route
from event_agent.dialplan.secret import Key, Seal
from event_agent.dialplan.worker import Saving, Worker
from event_agent.errors import CommandError
from event_agent.freeswitch.link import SwitchObserver
from event_agent.http.listener import HttpListener
from event_agent.http.server import HttpAnswer, HttpRequest, Later
from event_agent.protocol.raw_event import RawEvent
from event_agent.runtime.health import Signs

log = logging.getLogger(__name__)

TICK = 1.0  # seconds between two looks at what may have been missed
WAITING = 1024  # commands whose reply waits for the disk
XML = "text/xml; charset=utf-8"


class DialplanControl(SwitchObserver):
    """Dialplan control as a part of the daemon."""

    name = "dialplan"

    def __init__(
        self,
        listener: HttpListener,
        state_dir: str,
        send: Send,
        watch: Callable[[frozenset[str]], None],
        router: Router,
        key: str = "",
        tick: float = TICK,
    ) -> None:
        """`send` gives commands to FreeSWITCH; `watch` names the events that are needed here; from any thread.

        `key`: dialplan_key, as in the settings. The listener is started by others, after this.
        """
        self._listener = listener
        self._router = router
        self._watch = watch
        self._watched: frozenset[str] = frozenset()
        self._saving = Saving(Store(state_dir))
        self._seal = Seal(state_dir)
        self._key = Key(state_dir, key, lambda: self.do(self._require_key))
        self.intercepted = 0  # calls for which FreeSWITCH was told in time to park them
        self._manager = Manager(self._seal.of)
        self.parked = ParkedCalls(send, lambda: self._manager.choices, self._seal)
        self._binding = Binding(send, self._url, lambda: self._manager.choices.active)
        # mod_xml_curl posts; with `method` set to GET it asks in the query. A binding's URL may lack the path.
        for method, path in (("POST", "/dialplan"), ("GET", "/dialplan"), ("POST", "/")):
            listener.route(method, path, self._asked)
        listener.on_open(self._opened)
        self._worker = Worker(self._begin, self._probe, self.parked.tick, tick)
        self._linked = False

    # -- for the daemon

    def start(self) -> None:
        """Take up the saved choices, start the thread."""
        if not self._listener.wanted:
            log.info("dialplan control is off: %s", self._listener.fault)
            return
        self._seal.load()
        self._key.load(in_use=self._saving.store.exists)
        if not self._key.text:
            log.warning("dialplan_key is empty: any program on this machine can ask for the dialplan here")
        if self._key.optional:
            log.warning(
                "park mode was in use before there was a dialplan_key: until a question comes with it, those without a "
                "key are taken too, from any program on this machine; %s; the key is in %s",
                self._with_key(shown=True), self._key.path,
            )  # fmt: skip
        saved = self._saving.store.load()
        self._manager.choose(**vars(saved))
        if saved.route.enabled:
            self._router.begin()
        self._worker.start()

    def stop(self, timeout: float) -> None:
        """End the thread within `timeout` seconds. FreeSWITCH goes on with its own dialplan."""
        self._worker.stop(timeout)

    def signs(self) -> Signs:
        """By which its thread is known to be alive."""
        return self._worker.signs() if self._listener.wanted else Signs()

    def linked(self) -> None:
        """Commands and events flow (again): find out what is parked, and whether FreeSWITCH asks us."""
        self._linked = True
        if self._listener.fault:
            return
        if self._seal.made or self._manager.choices.active:
            self.do(self.parked.resynchronise)
        if self._manager.choices.active:
            self._want_probe(again=True)

    def down(self, reason: str) -> None:
        """FreeSWITCH is unreachable."""
        self._linked = False
        self._binding.lost()

    def event(self, name: str, event: RawEvent) -> None:
        """An event came, wanted by the broker or not. On the event thread."""
        self.parked.event(name, event)

    def section(self) -> dict[str, Any]:
        """agent.status's part."""
        if self._manager.choices.active and not self.bound:
            self._want_probe()
        part: dict[str, Any] = {"listen": self._listener.where, "available": not self._listener.fault}
        if self._listener.fault:
            part["fault"] = self._listener.fault
        else:
            part |= {
                "binding": self._binding.state,
                **self.fields(),
                "uuids_refused": self.parked.refused,
                "questions_refused": self.questions_refused,
            }
            if help := self._binding.help() or (self._key.optional and self._with_key()):
                part["add"] = help
        return part

    def do(self, job: Callable[[], None]) -> None:
        """Have it done on the `dialplan` thread; asked twice before its turn, it is done once."""
        self._worker.do(job)

    @property
    def bound(self) -> bool:
        """True if FreeSWITCH has asked here."""
        return self._binding.state == BOUND

    # -- for the commands

    def check(self) -> None:
        """CommandError if dialplan control is not available."""
        if fault := self._listener.fault:
            raise CommandError(f"Dialplan control is not available: {fault}")

    def choose(self, reply: Callable[[bool], None], **changes: Any) -> None:
        """Change choices, on the command's thread. Raises BadPattern.

        `reply` is called once they are on disk, with True, or could not be written.

        CommandError if calls are to be decided by a program, and the driver can't ask one.
        """
        if len(self._saving) >= WAITING:
            raise CommandError(f"Too many dialplan commands are waiting for the disk ({WAITING})")
        before = self._manager.choices
        routes = isinstance(route := changes.get("route"), Route) and route.enabled
        if routes and not self._router.able:
            raise CommandError("This agent's driver can't ask programs, so calls can't be routed")
        choices = self._manager.choose(**changes)
        if routes:
            self._router.begin()
        if (before.audio, before.music_class) != (choices.audio, choices.music_class):
            self.do(self.parked.audio_changed)
        if choices.active and not before.active:
            self.parked.prepare()
        if choices.active and not self.bound:
            self._want_probe()
        self._saving.changed(reply)
        self._worker.wake()

    @property
    def questions_refused(self) -> int:
        """Questions of mod_xml_curl without the right key."""
        return self._key.refused

    def fields(self) -> dict[str, Any]:
        """The choices and counters, as they stand in replies."""
        choices = self._manager.choices
        return {
            "mode": "park" if choices.enabled else "disabled",
            "audio": choices.audio,
            "music_class": choices.music_class,
            "auto_answer": choices.autoanswer,
            "context": list(choices.contexts),
            "number": choices.number,
            "except": list(choices.excepted),
            "calls_parked": self.parked.now,
            "calls_parked_total": self.parked.total,
            "calls_intercepted": self.intercepted,
            "calls_missed": self.parked.missed,
            "key": self._key.state,
            "route": self._router.fields(choices.route),
        }

    @property
    def routing(self) -> bool:
        """True while a program decides over calls."""
        return self._manager.choices.route.enabled

    @property
    def router(self) -> Router:
        """What asks programs about calls."""
        return self._router

    # -- the listener's thread

    def _opened(self) -> None:
        log.info("FreeSWITCH's mod_xml_curl may ask for its dialplan at http://%s/dialplan", self._listener.where)
        if self._linked:  # FreeSWITCH may have been quicker
            self.linked()

    def _url(self, shown: bool = False) -> str:
        """Where mod_xml_curl is to ask; with the key unless it is to be `shown` in the log."""
        key = f"?key={'…' if shown else self._key.text}" if self._key.text else ""
        return f"http://{self._listener.where}/dialplan{key}"

    def _with_key(self, shown: bool = False) -> str:
        """What to change in a binding that has no key yet; `shown` as in `_url`."""
        return (
            'in xml_curl.conf.xml, in the binding that asks here: <param name="gateway-url" '
            f'value="{self._url(shown)}" bindings="dialplan"/>, then: fs_cli -x "reload mod_xml_curl"'
        )

    def _asked(self, request: HttpRequest) -> HttpAnswer | Later:
        if not self._key.fits(request.query):
            return HttpAnswer(b"", status=403)
        pairs = request.body if request.method == "POST" else request.query.encode("latin-1")
        params = read_params(pairs, self._manager.variables)
        if params.get("tag_name") == PROBE:
            nonce = params.get("key_value", "")
            return HttpAnswer(write_probe(nonce) if self._binding.arrived(nonce) else NOT_FOUND, XML)
        if params.get("section") == "dialplan":
            self._binding.call_came()
        uuid = params.get("Unique-ID", "")
        found = self._manager.decide(params) if self.parked.known(uuid) else None
        if found is None:
            return HttpAnswer(NOT_FOUND, XML)
        if isinstance(found, Route):
            return self._ask_about(found, params, request)
        if request.gone():  # FreeSWITCH has given up and goes by its own dialplan
            self.parked.miss()
            return HttpAnswer(NOT_FOUND, XML)
        return self._park(uuid, found)

    def _park(self, uuid: str, extension: Extension) -> HttpAnswer:
        self.intercepted += 1
        self.parked.expect(uuid)
        return HttpAnswer(write_extension(extension), XML)

    def _ask_about(self, route: Route, params: dict[str, str], request: HttpRequest) -> Later:
        """A program is asked; the call waits for what it says."""
        later = request.later()

        def made(decide: Callable[[bool], Decision]) -> None:
            later.answer(lambda: self._decided(decide(request.gone()), params))

        self._router.ask(route, params, made)
        return later

    def _decided(self, decision: Decision, params: dict[str, str]) -> HttpAnswer:
        if decision.action == "dialplan":
            return HttpAnswer(NOT_FOUND, XML)
        if decision.action == "park":
            return self._park(params["Unique-ID"], self._manager.park(params))
        return HttpAnswer(write_extension(self._manager.route(params, decision.actions)), XML)

    # -- the `dialplan` thread

    def _require_key(self) -> None:
        self._key.require()
        log.info("mod_xml_curl's questions have dialplan_key: from now on those without it are refused")

    def _want_probe(self, again: bool = False) -> None:
        self._binding.want_probe(again)
        self._worker.wake()

    def _begin(self) -> None:
        """First in each round of the thread."""
        self._subscribe()
        if self._manager.choices.active:
            self._seal.load(make=True)  # here, rather than while a call waits for it
        self._saving.save(lambda: self._manager.choices)

    def _probe(self) -> None:
        """Last in each round."""
        self._binding.probe_if_due()

    def _subscribe(self) -> None:
        """Have the events that are needed now, and no others, sent to us."""
        needed = EVENTS if self._manager.choices.active or self.parked.watching else frozenset()
        if needed != self._watched:
            self._watched = needed
            self._watch(needed)
