"""What channels execute: dialplan applications, one after the other or on top of each other.

Works on the channels of `Calls`, under its lock. An application either ends at once or stays on the channel's stack
until a timer, a hangup or a transfer ends it; `sendmsg` and `uuid_broadcast` put theirs on top of what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from .applications import BLOCKING, MEDIA, START, Outcome
from .calls import Calls
from .channel import Channel, Running
from .dialplan import own_extension, request_params
from .events import Headers, Value
from .names import State, cause

Expand = Callable[[Channel, str], str]


class Execution:
    """Runs extensions and single applications on channels."""

    def __init__(self, calls: Calls, expand: Expand, known: Callable[[str], bool]) -> None:
        """`known`: whether some module that is loaded has an application of that name."""
        self.calls = calls
        self.known = known
        self.workers = calls.workers
        self.expand = expand
        calls.unwind = self.unwind

    # --- extensions --------------------------------------------------------------------------------------------

    def route(self, channel: Channel) -> None:
        """Looks for the channel's extension and executes it. A hook that takes its time holds only this call up."""
        calls = self.calls
        with calls.lock:
            if channel.down or channel.profile is None:
                return
            generation = channel.generation
            channel.state = State.CS_ROUTING
            if channel.direction == "inbound":
                channel.set("call_uuid", channel.uuid)
            calls.enter(channel, State.CS_ROUTING)
            stamp = calls.bus.stamp()
            profile = channel.profile
            hook = calls.dialplan_hook
            asked = request_params(calls.bus, channel, stamp) if hook else {}
        extension = hook(asked) if hook else None
        if extension is None:
            extension = own_extension(profile.destination, profile.context, profile.dialplan)
        with calls.lock:
            if channel.generation != generation:
                return
            if not extension:
                calls.hangup(channel, "NO_ROUTE_DESTINATION")
                return
            if channel.direction == "outbound":
                calls.flip_caller_id(channel)
            channel.actions = list(extension)
            self.begin(channel)

    def begin(self, channel: Channel) -> None:
        """Executes the actions the channel was given."""
        with self.calls.lock:
            if channel.down:
                return
            channel.state = State.CS_EXECUTE
            channel.set("call_uuid", channel.get("call_uuid") or channel.uuid)
            self.calls.enter(channel, State.CS_EXECUTE)
            self._go_on(channel)

    def transfer(self, channel: Channel, destination: str, dialplan: str, context: str) -> None:
        """Sends the channel elsewhere in the dialplan; what it does now ends."""
        calls = self.calls
        with calls.lock:
            profile = channel.profile
            if channel.down or profile is None:
                return
            channel.generation += 1
            channel.actions.clear()
            self.unwind(channel)
            calls.unbridge(channel)
            channel.set("max_forwards", str(int(channel.get("max_forwards") or 70) - 1))
            profile.rdnis, profile.destination = profile.destination, destination
            profile.dialplan = dialplan or profile.dialplan
            profile.context = context or profile.context
            profile.index += 1
            where = f"{destination}/{profile.context}/{profile.dialplan}"
            seconds = channel.times.channel_created // 1_000_000
            profile.transfer_source = f"{seconds}:{uuid4()}:bl_xfer:{where}"
            channel.set("transfer_history", profile.transfer_source)
            channel.set("transfer_source", profile.transfer_source)
        if calls.dialplan_hook:
            self.workers.spawn(f"route-{channel.session_id}", lambda: self.route(channel))
        else:
            self.route(channel)

    def _go_on(self, channel: Channel) -> None:
        generation = channel.generation
        while channel.generation == generation and not channel.stack:
            if not channel.actions:
                self.calls.hangup(channel, "NORMAL_CLEARING")
                return
            self._execute(channel, *channel.actions.pop(0))

    # --- private commands --------------------------------------------------------------------------------------

    def private_command(self, channel: Channel, headers: Headers, body: str | None = None) -> None:
        """What `sendmsg` and `uuid_broadcast` put into a channel's queue; runs in the clock thread."""
        self.workers.later(0, lambda: self._private_command(channel, headers, body))

    def _private_command(self, channel: Channel, headers: Headers, body: str | None) -> None:
        calls = self.calls
        asked = {name.lower(): value for name, value in headers if isinstance(value, str)}
        with calls.lock:
            if channel.down:
                return
            command = asked.get("call-command")
            if command == "execute" and asked.get("execute-app-name"):
                argument = asked.get("execute-app-arg", "")
                if not argument and asked.get("content-type", "").lower() == "text/plain":
                    argument = body or ""
                channel.set("current_loop", "1")
                channel.set("total_loops", asked.get("loops", "1"))
                self._execute(channel, asked["execute-app-name"], argument, asked.get("event-uuid"))
                channel.set("current_loop", None)
                channel.set("total_loops", None)
            elif command == "hangup":
                calls.hangup(channel, cause(asked.get("hangup-cause", "NORMAL_CLEARING")))
            calls.fire(channel, "PRIVATE_COMMAND", before=headers)

    # --- single applications -----------------------------------------------------------------------------------

    def _execute(self, channel: Channel, application: str, argument: str, uuid: str | None = None) -> None:
        calls = self.calls
        application = application.lower()  # names have no case
        if not self.known(application):
            calls.hangup(channel, "DESTINATION_OUT_OF_ORDER")
            return
        if application in MEDIA and channel.direction == "inbound" and not channel.answered:
            calls.pre_answer(channel)
        if not channel.variables.get("app_disable_expand_variables"):  # switch_core_session_exec
            argument = self.expand(channel, argument)
        running = Running(application, argument, uuid or str(uuid4()))
        channel.set("current_application", application)
        channel.set("current_application_data", argument)
        channel.set("current_application_response", None)
        calls.fire(channel, "CHANNEL_EXECUTE", after=self._told(running))
        channel.set("current_application", application)
        channel.stack.append(running)
        channel.last = running
        outcome = START[application](self, channel, argument) if application in START else Outcome()
        if outcome.lasts and running in channel.stack:
            if outcome.seconds is not None:
                self.workers.later(outcome.seconds, lambda: self._finish(channel, running))
        else:
            self._end(channel, running)

    def _finish(self, channel: Channel, running: Running) -> None:
        """The application has come to its end by itself; what runs on top of it may still hold it up."""
        with self.calls.lock:
            if running not in channel.stack:
                return
            running.finished = True
            while channel.stack and channel.stack[-1].finished:
                self._end(channel, channel.stack[-1])
            if not channel.stack:
                self._go_on(channel)

    def _end(self, channel: Channel, running: Running, *, broken: bool = False) -> None:
        if running not in channel.stack:
            return
        channel.stack.remove(running)
        last_words = BLOCKING.get(running.application)
        if last_words:
            last_words(self, channel, running, broken)
        response: Headers = [("Application-Response", channel.get("current_application_response") or "_none_")]
        told = self._told(running)
        self.calls.fire(channel, "CHANNEL_EXECUTE_COMPLETE", after=[*told[:-1], *response, told[-1]])

    def dtmf(self, channel: Channel, digits: str) -> None:
        """The caller dials digits; the application on top takes them if it collects any."""
        with self.calls.lock:
            channel.dtmf += digits
            running = channel.stack[-1] if channel.stack else None
            if running is None or running.digits is None:
                return
            channel.dtmf = running.digits.take(channel.dtmf)
            if running.digits.done:
                self.workers.later(0, lambda: self._finish(channel, running))

    def break_off(self, channel: Channel) -> None:
        """Ends what plays or sleeps, as if it had come to its end."""
        with self.calls.lock:
            running = channel.stack[-1] if channel.stack else None
            if running is not None and (running.application in MEDIA or running.application == "sleep"):
                self.workers.later(0, lambda: self._finish(channel, running))

    def unwind(self, channel: Channel) -> None:
        """Ends all that runs, from the top."""
        with self.calls.lock:
            while channel.stack:
                self._end(channel, channel.stack[-1], broken=True)

    @staticmethod
    def _told(running: Running) -> Headers:
        shown: list[tuple[str, Value]] = [("Application", running.application)]
        if running.argument:
            shown.append(("Application-Data", running.argument))
        return [*shown, ("Application-UUID", running.uuid)]
