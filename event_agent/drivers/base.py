"""What a broker driver is to the rest of the program: four small ports, and an observer of what becomes of them.

    RequestSource   messages that come, in lists: those of one read
    Replies         answers that leave, in lists: those of one read leave in one write
    EventSink       events that leave, in order, and which of them have arrived
    Questions       requests of our own, each with one answer or none

A `Driver` is a link to a broker that offers the first three, and the last one if it can. See docs/DRIVERS.md for how to
write one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from event_agent.errors import AgentError
from event_agent.runtime.health import Signs
from event_agent.runtime.link import LinkStatus

MAX_SUBSCRIPTIONS = 32
MAX_QUESTIONS = 512  # that wait for their answer at one time


@dataclass(slots=True)
class Message:
    """A request as it came from the broker. Subjects are bytes: what came goes back as it was."""

    subject: bytes
    reply: bytes  # where the answer goes; b"" when none is wanted
    data: bytes
    headers: bytes = b""  # the raw header block, if the broker knows headers
    subscription: int = field(default=0, compare=False)  # the driver's own number of it
    carried: dict[str, str] | None = field(default=None, compare=False)  # headers for its answer, if the broker has any


Deliver = Callable[[list[Message]], None]

# Why events are lost; `bridge/losses.py` adds those that no driver knows.
BUFFER_FULL, SPOOL_FULL, SPOOL_FAULT, SPOOL_DAMAGED = "buffer full", "spool full", "spool fault", "spool damaged"
UNCONFIRMED, TOO_LARGE = "unconfirmed", "too large"
SERVER_REFUSED, STREAM_REFUSED = "refused by the server", "refused by the stream"
STOPPED = "stopped"

Reply = tuple[Message, bytes, str]  # what is answered, with what, and the text of an error: "" for a success


class Event(Protocol):
    """An event on its way out."""

    @property
    def subject(self) -> bytes: ...

    @property
    def payload(self) -> bytes: ...

    @property
    def parts(self) -> tuple[bytes, ...]:
        """The payload in parts, for those who need it only to write it."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        ...

    @property
    def source(self) -> bytes:
        """What FreeSWITCH sent, or the payload: either tells which event it was, if it is lost."""
        ...

    @property
    def msg_id(self) -> bytes:
        """What identifies it, for brokers that store each only once; b"" if nothing does."""
        ...


@dataclass(frozen=True, slots=True)
class Loss:
    """Events that did not arrive, or may not have."""

    reason: str
    count: int | None  # None: it can't be known
    # They came between these two, which were lost or are next to what was; b"" is unknown.
    first: bytes = b""
    last: bytes = b""


class ManySubjects(ABC):
    """Subjects that come and go by the thousand. Any thread may call it, and nothing is waited for."""

    @abstractmethod
    def join(self, *subjects: str, later: bool = False) -> None:
        """Have their messages handed on, now and after each reconnect.

        What is offered to the sink after this returns arrives after they hold. `later`: the broker need not hear of
        them before that, or before `tell`. Raises AgentError for a subject that no broker would take, and then holds
        none of them.
        """

    @abstractmethod
    def leave(self, subjects: Iterable[str], later: bool = False) -> None:
        """No longer. What is on its way is still handed on. `later`: as with `join`."""

    @abstractmethod
    def tell(self) -> None:
        """Let the broker hear of what was to be `later`, if it has not."""

    @abstractmethod
    def __len__(self) -> int:
        """How many are held."""


class RequestSource(ABC):
    """Where requests come from."""

    wildcards = False  # whether there is `subscribe_below`

    @abstractmethod
    def subscribe(self, subject: str, deliver: Deliver, queue: str = "") -> int:
        """Messages of `subject` go to `deliver`, now and after each reconnect.

        It gets those of one read as a list, in the order in which they came, whichever of its subscriptions they came
        by; one call at a time. It returns quickly and raises nothing. Returns a number for `unsubscribe`. Raises
        AgentError beyond MAX_SUBSCRIPTIONS, or for a subject that no broker would take.
        """

    def subscribe_below(self, subject: str, deliver: Deliver, queue: str = "", optional: bool = False) -> int:
        """As `subscribe`, for all subjects that begin with this one and a dot; as `refused` has it: `<subject>.>`.

        If it is `optional`, a broker that refuses it is no fault.
        """
        raise AgentError(f"this broker knows no wildcards: {subject}.>")

    @abstractmethod
    def unsubscribe(self, number: int) -> None:
        """End a subscription; messages that were on their way are handed on before this returns."""

    def many(self, deliver: Deliver) -> ManySubjects | None:
        """Subjects beyond MAX_SUBSCRIPTIONS, whose messages go to `deliver` as those of `subscribe`; once, at first.

        None: the driver has no such thing, and no call has a lane of its own.
        """
        return None

    @abstractmethod
    def pause(self) -> None:
        """Read nothing more, so that the broker and the clients have to wait, until `resume`. From any thread.

        The link outlasts it: a driver reads again by itself before the broker would end the link, and does not pause
        again until `resume` was called.
        """

    @abstractmethod
    def resume(self) -> None:
        """Read again. From any thread."""


class Replies(ABC):
    """Where replies go."""

    max_payload: int  # bytes that the broker takes in one message; a longer one must not be sent

    @abstractmethod
    def send(self, replies: Sequence[Reply]) -> int:
        """Send these in one write, or keep them for later; returns how many were taken.

        The others are dropped and counted, and the driver's log says why. From any thread, and never waits.
        """


class EventSink(ABC):
    """Where events go. They are numbered from 1 in the order in which they are taken; see Observer.settled."""

    max_payload: int  # bytes that the broker takes in one message; a longer one must not be offered
    refused = BUFFER_FULL  # why the last `offer` that did not take all did not

    @abstractmethod
    def offer(self, events: Sequence[Event]) -> int:
        """Take these, in order, to be sent in one write, now or later; returns how many were taken.

        The others are dropped and counted, and the log says why. From any thread, and never waits.
        """

    def announce(self, event: Event) -> int:
        """Take an event that says what was lost, if there is room; 0 and nothing is counted if there is none.

        Else its number (see Observer.settled), or -1 if what was taken is as good as delivered.
        """
        return -1 if self.offer([event]) else 0

    @property
    def fault(self) -> str:
        """Why events do not arrive although the link is up, or are not safe; "" if all is well."""
        return ""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Events that were taken and are not settled."""

    @abstractmethod
    def flush(self, timeout: float) -> bool:
        """Wait until all that were taken are settled; False if they are not within `timeout` seconds."""


class Unanswered(Enum):
    """Why a question has no answer. The values stand in replies and metrics."""

    NOBODY = "no_responders"  # nobody listens where it went
    LATE = "late"  # none came in time
    BUSY = "too_many"  # MAX_QUESTIONS wait already
    DOWN = "not_connected"  # there is no link, or it was lost meanwhile
    REFUSED = "refused"  # the broker does not let us ask there, or hear an answer
    TOO_LARGE = "too_large"  # for the broker


Answer = bytes | Unanswered


class Questions(ABC):
    """Requests of our own to others. Any thread may ask, and nothing is waited for."""

    @abstractmethod
    def begin(self) -> None:
        """Get ready to hear answers; before the first question. Any number of times."""

    @abstractmethod
    def ask(self, subject: str, data: bytes, timeout: float, then: Callable[[Answer], None]) -> None:
        """Ask once. `then` is called once, within `timeout` seconds, with the first answer, or why there is none.

        It is called on any thread, perhaps before this returns, and must not wait. An answer belongs to its question
        alone: the receiver of one question can't answer another.
        """

    @abstractmethod
    def ignored(self) -> Mapping[str, int]:
        """How many answers were dropped, by reason: `late`, `second`, `unknown` (nobody had asked)."""


class Observer:
    """What the owner of a driver hears; on the driver's threads, none may wait or raise. This one ignores it all."""

    def link_changed(self, status: LinkStatus) -> None:
        """The link has another state, or another reason for it."""

    def settled(self, number: int, lost: int) -> None:
        """All events up to this number are through: the broker has confirmed them, or they are lost.

        `lost`: how many, of all so far, did not arrive or may not have. Of two calls at one time the larger numbers
        count.
        """

    def lost(self, loss: Loss) -> None:
        """Events that had been taken are lost. Those that `offer` does not take are not reported here."""


class Driver(RequestSource, Replies):
    """A link to a broker. It owns its threads, reconnects by itself and keeps subscriptions over that."""

    name: str  # as in the settings and in agent.status
    events: EventSink

    @abstractmethod
    def start(self) -> None:
        """Begin connecting, and go on trying; returns at once."""

    @abstractmethod
    def stop(self, timeout: float) -> None:
        """Send what waits, close the link and end the threads, within `timeout` seconds."""

    @abstractmethod
    def signs(self) -> Signs:
        """By which its threads are known to be alive."""

    @property
    @abstractmethod
    def status(self) -> LinkStatus:
        """How the link stands, why, and since when."""

    def questions(self, name: str) -> Questions | None:
        """Where to ask others; once, before `start`. `name`: a token of the subjects on which answers come.

        None: the driver has no such thing, and no program can decide calls.
        """
        return None

    def refused(self) -> Mapping[str, str]:
        """Subjects of subscriptions that the broker has refused or taken away, with its words; it is asked again."""
        return {}

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Counters and state, for agent.status; JSON values only."""
