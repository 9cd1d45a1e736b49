"""What a person does with a call, followed until it is true. Each action is a function of `Actions`, by its name.

FreeSWITCH answers `+OK` to a transfer before anything has happened. So each action here subscribes to the call's
events first, gives its command, and then waits for what was meant: the caller talks to the phone, the leg is gone. A
phone is called before the caller is touched: a phone that is not registered loses nobody.

An outcome has no words but a `say`, a name in the page's table of texts (static/texts-en.js), and what is to be put
into it. Any thread; an action takes as long as a telephone rings, and no longer than LONGEST.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

from event_agent.client import AgentTimeout, NoAgent
from event_agent.errors import AgentError, LinkError

from .calls import Leg, cut
from .followed import Followed
from .world import World

Command = Callable[[Mapping[str, Any], str | None, float], Mapping[str, Any] | None]

RINGS = 30  # seconds that a phone is called
ASK = 10.0  # seconds for a command that needs no phone
SETTLES = 15.0  # seconds in which what a command has begun becomes true
RUNS = 1.0  # seconds that an application must have run for a caller to be "there"
LONGEST = 75.0  # seconds that a transfer to an extension is followed

LOOKS = 0.25  # seconds between two looks whether the caller of a phone that rings is still there
UNBRIDGED = {"intercept_unbridged_only": "true"}  # nobody is taken out of a talk

_WORD = re.compile(r"[^\s'\"\\{}\[\]<>|$&]{1,255}")
_UUID = re.compile(r"[\w.:@-]{1,255}")
_CAUSE = re.compile(r"-ERR ([A-Z][A-Z0-9_]+)\s*")


class Said(Exception):
    """An action has ended otherwise than it was meant."""

    def __init__(self, say: str, **words: object) -> None:
        super().__init__(say)
        self.say = say
        self.words = words


Outcome = dict[str, Any]


def done(say: str, **words: object) -> Outcome:
    return {"ok": True, "say": say, "words": words}


class Actions:
    """The actions, by their names."""

    def __init__(self, world: World, command: Command, settles: float = SETTLES) -> None:
        self._settles = settles
        self._world = world
        self._send = command
        self._known: dict[str, Callable[[str, Mapping[str, Any], str], Outcome]] = {
            "answer": self._answer, "hangup": self._hangup, "take": self._take, "transfer": self._transfer,
            "listen": self._listen, "whisper": self._listen, "consult": self._consult, "connect": self._connect,
            "back": self._back, "callback": self._callback,
        }  # fmt: skip

    def do(self, asked: Mapping[str, Any], who: str) -> Outcome:
        """Carry out {"action", "node", "uuid", …} for `who`; always an outcome."""
        try:
            action = self._known.get(str(asked.get("action")))
            node = asked.get("node")
            if action is None or not isinstance(node, str) or not node:
                raise Said("act.unknown")
            return action(node, asked, who)
        except Said as said:
            return {"ok": False, "say": said.say, "words": said.words}
        except NoAgent:
            return {"ok": False, "say": "act.no_agent", "words": {"node": cut(asked.get("node"), 64)}}
        except AgentTimeout:
            return {"ok": False, "say": "act.no_answer", "words": {}}
        except LinkError as error:
            return {"ok": False, "say": "act.no_nats", "words": {"why": cut(str(error))}}
        except AgentError as error:
            return {"ok": False, "say": "act.refused", "words": {"why": cut(str(error))}}

    # -- the actions

    def _answer(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        uuid = self._uuid(asked)
        with self._follow(node, uuid) as call:
            self._ask({"command": "uuid_answer", "args": uuid}, node)
            self._wait(call, lambda leg: leg["answered"], "act.not_answered")
        return done("act.answered")

    def _hangup(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        uuid = self._uuid(asked)
        with self._follow(node, uuid) as call:
            self._ask({"command": "hangup", "uuid": uuid}, node)
            if not call.until(lambda leg: leg is None, self._settles):
                raise Said("act.still_there")
        return done("act.hung_up")

    def _take(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        uuid, phone = self._uuid(asked), _word(asked, "phone")
        with self._follow(node, uuid) as call:
            if call.leg["other"]:
                raise Said("act.is_taken")
            if first := self._world.claim(node, uuid, who or phone):
                raise Said("act.taken", who=first)
            try:
                self._joined(call, self._ring(call, phone, UNBRIDGED))
            finally:
                self._world.release(node, uuid)
        return done("act.talks", phone=phone)

    def _transfer(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        uuid, target = self._uuid(asked), _word(asked, "target")
        if asked.get("kind") == "phone":
            with self._follow(node, uuid) as call:
                self._joined(call, self._ring(call, target, {}))
            return done("act.talks", phone=target)
        context = _word(asked, "context") if asked.get("context") else ""
        with self._follow(node, uuid) as call:
            context = context or call.leg["context"] or "default"
            self._ask({"command": "uuid_transfer", "args": f"{uuid} {target} XML {context}"}, node)
            return self._arrives(call, target, context)

    def _listen(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        uuid, phone = self._uuid(asked), _word(asked, "phone")
        whisper = asked.get("action") == "whisper"
        with self._follow(node, uuid) as call:
            ours = call.leg["other"]  # who is to hear a whisper: the side that the caller talks to
            if not ours:
                raise Said("act.no_talk")
            # switch_ivr_async.c: what is said goes to the channel itself with ED_MUX_WRITE, which this variable sets.
            variables = {"eavesdrop_enable_dtmf": "false", "eavesdrop_whisper_bleg": "true" if whisper else "false"}
            mine = self._originate(node, phone, f"&eavesdrop({ours})", variables)
        with self._appears(node, mine) as listener:
            self._wait(listener, lambda leg: leg["app"].startswith("eavesdrop "), "act.not_joined")
        return done("act.whispers" if whisper else "act.listens", phone=phone)

    # A consultation: the caller waits, our side (`with`) talks to somebody else (`to`). What FreeSWITCH has for this
    # (att_xfer) ends with keys on the telephone; here each step is a command of its own. No music while the caller
    # waits: a playback under way kept the channel from being taken out of it (FreeSWITCH 1.10.12, no audio coming in).

    def _consult(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        uuid, phone = self._uuid(asked), _word(asked, "target")
        with self._follow(node, uuid) as call:
            ours = call.leg["other"]
            if not ours:
                raise Said("act.no_talk")
            # Before the legs move: whom the row is about does not change.
            self._world.note(node, uuid, consult={"with": ours, "to": "", "phone": phone, "ended": False})
            try:
                self._hold(call, ours)
            except (Said, AgentError):
                self._world.note(node, uuid, consult=None)
                self._unless_gone(call, ours)
                raise
            try:
                to = self._ring(call, phone, UNBRIDGED, ours)
                self._meet(node, to, ours, phone)
            except (Said, AgentError):
                if self._is_over(call):
                    return done("act.consult_over", phone=phone)
                self._give_back(call, ours)
                raise
        return done("act.consults", phone=phone)

    def _hold(self, call: Followed, ours: str) -> None:
        """Part our side from the caller; both wait."""
        node = call.leg["node"]
        self._ask({"command": "uuid_setvar_multi",
                   "args": f"{ours} park_after_bridge=true;hangup_after_bridge=false"}, node)  # fmt: skip
        self._ask({"command": "uuid_transfer", "args": f"{ours} -both park inline"}, node)
        self._wait(call, lambda leg: leg["parked"], "act.not_held")
        # If the one that is asked hangs up, our side is to be there to go back. The first time was for the bridge that
        # ended, and park takes the variable away (switch_ivr.c, switch_ivr_park).
        self._ask({"command": "uuid_setvar", "args": f"{ours} park_after_bridge true"}, node)

    def _meet(self, node: str, to: str, ours: str, phone: str) -> None:
        """The phone that is asked has answered: our side should talk to it now."""
        with self._appears(node, to) as asked:
            if not asked.until(lambda leg: leg is None or leg["other"] == ours, self._settles):
                raise Said("act.not_met")
            if asked.now() is None:
                raise Said("act.asked_gone", phone=phone)

    @staticmethod
    def _is_over(call: Followed) -> bool:
        """Whether somebody has gone back to the caller, or connected them, while the phone rang."""
        leg = call.now()
        return leg is not None and not leg["consult"]

    def _unless_gone(self, call: Followed, ours: str) -> None:
        """Raises Said if the caller has hung up; our side then has nobody to talk to, and is hung up too."""
        if call.now() is None:
            self._end(call.leg["node"], ours)
            raise Said("act.ended", cause=call.cause, phone="", context="")

    def _give_back(self, call: Followed, ours: str) -> None:
        """A consultation came to nothing: our side gets its caller again. Raises Said if one of them has gone."""
        node = call.leg["node"]
        self._unless_gone(call, ours)
        if self._world.leg(node, ours) is None:
            self._world.note(node, call.leg["uuid"], consult=None)
            raise Said("act.ours_gone")
        self._rejoin(call, ours)

    def _connect(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        with self._follow(node, self._uuid(asked)) as call:
            consult: Mapping[str, Any] = call.leg["consult"] or {}
            to = self._world.leg(node, consult.get("to", ""))
            if to is None or to["other"] != consult["with"]:
                raise Said("act.no_consult")
            self._rejoin(call, consult["to"])
            self._end(node, consult["with"])
        return done("act.talks", phone=consult["phone"])

    def _back(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        with self._follow(node, self._uuid(asked)) as call:
            consult = call.leg["consult"]
            if not consult:
                raise Said("act.no_consult")
            if self._world.leg(node, consult["with"]) is None:
                raise Said("act.ours_gone")
            self._wait(call, lambda leg: leg["parked"], "act.not_held")  # it may be just beginning
            self._rejoin(call, consult["with"])
            self._end(node, consult["to"])
        return done("act.came_back")

    def _callback(self, node: str, asked: Mapping[str, Any], who: str) -> Outcome:
        phone, entry = _word(asked, "phone"), self._world.lost_caller(asked.get("id"))
        if entry is None:
            raise Said("act.not_lost")
        number = _word({"number": entry["number"]}, "number")
        self._originate(node, phone, number, {}, "", number)
        self._world.called_back(entry["id"], who or phone)
        return done("act.calls_back", number=number, phone=phone)

    # -- their parts

    def _rejoin(self, call: Followed, leg: str) -> None:
        """Give this leg the caller who waits. When that talk ends the leg ends, as it would have before."""
        self._ask({"command": "uuid_setvar", "args": f"{leg} park_after_bridge"}, call.leg["node"])
        self._ask({"command": "uuid_transfer", "args": f"{leg} intercept:{call.leg['uuid']} inline"}, call.leg["node"])
        self._wait(call, lambda now: now["other"] == leg, "act.not_joined")

    def _end(self, node: str, uuid: str) -> None:
        """Hang up a leg that is not wanted any more; most have ended by themselves."""
        if uuid and self._world.leg(node, uuid) is not None:
            self._send({"command": "hangup", "uuid": uuid}, node, ASK)

    def _ring(self, call: Followed, phone: str, variables: Mapping[str, str], other: str = "") -> str:
        """Call a phone and give it the caller, or `other` who consults, when it answers; the new leg's uuid.

        It rings no longer than there is somebody to talk to: until the caller is gone or the consultation is over.
        """
        leg, node = call.leg, call.leg["node"]
        mine = "" if "," in phone else str(uuid4())  # several phones can't have one uuid
        if other and not self._world.consulting(node, leg["uuid"], mine):
            raise Said("act.consult_over", phone=phone)
        over = threading.Event()

        def wanted() -> object:
            now = call.now()
            return now is not None and (not other or (now["consult"] and self._world.leg(node, other) is not None))

        def watch() -> None:
            while not over.wait(LOOKS):
                if not wanted():
                    with suppress(AgentError):  # tried again: its leg may be just coming
                        self._end(node, mine)

        watcher = threading.Thread(target=watch, name="panel-ringing", daemon=True)
        if mine:
            watcher.start()
        try:
            chosen = {"origination_uuid": mine} if mine else {}
            found = self._originate(
                node, phone, f"&intercept({other or leg['uuid']})", {**variables, **chosen}, leg["name"], leg["number"]
            )
        except Said:
            if call.now() is None:
                raise Said("act.ended", cause=call.cause, phone="", context="") from None
            raise
        finally:
            over.set()
            if mine:
                watcher.join()
        if other and not self._world.consulting(node, leg["uuid"], found):
            self._end(node, found)
            raise Said("act.consult_over", phone=phone)
        return found

    def _originate(
        self, node: str, phone: str, then: str, variables: Mapping[str, str], name: str = "", number: str = ""
    ) -> str:
        request = {
            "command": "originate", "endpoint": phone, "extension": then, "timeout": RINGS, "variables": variables,
            "caller_id_name": _plain(name, 80), "caller_id_number": _plain(number, 60),
        }  # fmt: skip
        reply = self._send(request, node, RINGS + ASK) or {}
        if not reply.get("success"):
            raise self._failed(reply, phone)
        data = reply.get("data")
        return str(data.get("uuid")) if isinstance(data, dict) else ""

    def _joined(self, call: Followed, mine: str) -> None:
        """The phone has answered, its leg is `mine`: the caller should talk to it now."""
        node, before = call.leg["node"], call.leg["other"]
        leg = self._wait(call, lambda leg: leg["other"] not in ("", before), "act.not_joined")
        if leg["other"] != mine and self._world.ended(node, mine):
            raise Said("act.is_taken")
        if not leg["answered"]:
            self._ask({"command": "uuid_answer", "args": leg["uuid"]}, node)
            self._wait(call, lambda leg: leg["answered"], "act.not_answered")

    def _wait(self, call: Followed, is_true: Callable[[Leg], object], otherwise: str) -> Leg:
        """The leg when that is true of it."""
        if not call.until(lambda leg: leg is None or is_true(leg), self._settles):
            raise Said(otherwise)
        leg = call.now()
        if leg is None:
            raise Said("act.ended", cause=call.cause, phone="", context="")
        return leg

    def _arrives(self, call: Followed, target: str, context: str) -> Outcome:
        """Follow a caller who was sent to an extension until the call is somewhere."""
        end = time.monotonic() + LONGEST
        trouble: dict[str, str] = {}
        runs_since, runs, parked, before = 0.0, "", False, call.leg["other"]
        while time.monotonic() < end:
            happened = call.next(min(end, runs_since + RUNS if runs else end))
            if happened is None and runs:
                return done("act.at_runs" + caused(trouble), target=target, app=runs, **trouble)
            name, headers = happened or ("", {})
            application = cut(headers.get("Application"), 64)
            if name == "CHANNEL_PARK":
                parked = True
            elif name == "CHANNEL_EXECUTE":
                runs_since, runs = time.monotonic(), "" if application == "bridge" else application
            elif name == "CHANNEL_EXECUTE_COMPLETE":
                runs = ""
                failed = headers.get("variable_originate_disposition")
                if application == "bridge" and isinstance(failed, str) and failed != "SUCCESS":
                    trouble = _cause(failed, cut(headers.get("Application-Data"), 120), context)
            leg = call.now()
            if leg is None and not call.waiting:
                raise Said("act.lost", **(trouble or _cause(call.cause, target, context)))
            if leg is None or leg["to"] != target:
                runs = ""  # it is not under way yet
            elif leg["other"] and leg["other"] != before:
                return done("act.at_talks", target=target)
            elif leg["parked"] and parked:
                return done("act.at_waits" + caused(trouble), target=target, **trouble)
        raise Said("act.still_rings" if (call.now() or call.leg)["to"] == target else "act.unseen", target=target)

    def _ask(self, request: Mapping[str, Any], node: str) -> None:
        reply = self._send(request, node, ASK) or {}
        if not reply.get("success"):
            raise self._failed(reply, "")

    @staticmethod
    def _failed(reply: Mapping[str, Any], phone: str) -> Said:
        message = cut(reply.get("message"))
        found = _CAUSE.fullmatch(cut(reply.get("data")) or message)
        return Said("act.cause", **_cause(found[1], phone)) if found else Said("act.refused", why=message)

    def _follow(self, node: str, uuid: str) -> Followed:
        followed = self._world.follow(node, uuid)
        if followed is None:
            raise Said("act.gone")
        return followed

    def _appears(self, node: str, uuid: str) -> Followed:
        """Follow a leg that has just come to be: the reply may be here before its events are."""
        end = time.monotonic() + self._settles
        while (followed := self._world.follow(node, uuid)) is None:
            if time.monotonic() > end or self._world.ended(node, uuid):
                raise Said("act.not_joined")
            time.sleep(0.02)
        return followed

    @staticmethod
    def _uuid(asked: Mapping[str, Any]) -> str:
        uuid = asked.get("uuid")
        if not isinstance(uuid, str) or not _UUID.fullmatch(uuid):
            raise Said("act.gone")
        return uuid


def caused(trouble: Mapping[str, str]) -> str:
    """What a `say` ends with whose text has room for a cause."""
    return "_cause" if trouble else ""


def _cause(cause: str, phone: str, context: str = "") -> dict[str, str]:
    return {"cause": cause, "phone": phone, "context": context}


def _word(asked: Mapping[str, Any], name: str) -> str:
    """A phone, an extension, a context: one word that FreeSWITCH takes for nothing else."""
    word = asked.get(name)
    if not isinstance(word, str) or not _WORD.fullmatch(word.strip()) or word.strip().startswith("-"):
        raise Said(f"act.bad_{name}")
    return word.strip()


def _plain(text: str, longest: int) -> str:
    """A caller's name as a phone may show it; what FreeSWITCH would change is left out."""
    return re.sub(r"[^\w .,:+@()/-]", " ", text.replace("_", " "))[:longest].strip()
