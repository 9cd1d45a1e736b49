"""A telephone of ours: a SIP user agent over UDP that takes INVITEs and answers them as told, and one that calls."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

CRLF = "\r\n"


@dataclass(frozen=True)
class Step:
    """One answer to an INVITE, so many seconds after the one before it."""

    status: str  # `183 Session Progress`
    after: float = 0.0
    sdp: bool = False


ANSWER = (Step("100 Trying"), Step("180 Ringing"), Step("200 OK", 0.05, sdp=True))


@dataclass
class Request:
    """A request as it came."""

    method: str
    uri: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        """A header's value, empty where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def parse(data: bytes) -> Request | None:
    """A request; None for anything else."""
    first, *lines = data.decode(errors="replace").partition(2 * CRLF)[0].split(CRLF)
    words = first.split(" ")
    if len(words) != 3 or words[2] != "SIP/2.0":
        return None
    pairs = (line.partition(":") for line in lines)
    return Request(words[0], words[1], [(name.strip(), value.strip()) for name, _, value in pairs])


def display(header: str) -> str:
    """The name in a From, Remote-Party-ID or P-Asserted-Identity header, as a phone shows it."""
    quoted = re.match(r'\s*"((?:[^"\\]|\\.)*)"\s*<', header, re.DOTALL)
    if quoted:
        return re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
    return header.partition("<")[0].strip()


class Phone:
    """Answers each INVITE with the steps it was given; a call goes on until the other side ends it."""

    def __init__(self, steps: Sequence[Step] = ANSWER) -> None:
        self.steps = steps
        self.invites: list[Request] = []
        self.cancelled = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.port = int(self._socket.getsockname()[1])
        self._seen: dict[str, str] = {}  # Call-ID: what was answered last
        self._ended: set[str] = set()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._serve, name="sip-phone", daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Phone:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)
        self._socket.close()

    @property
    def address(self) -> str:
        """Where it is called."""
        return f"127.0.0.1:{self.port}"

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                data, peer = self._socket.recvfrom(65536)
            except TimeoutError:
                continue
            request = parse(data)
            if request is not None:
                self._take(request, peer)

    def _take(self, request: Request, peer: tuple[str, int]) -> None:
        call = request.get("Call-ID")
        if request.method == "INVITE":
            if call in self._seen:  # sent again, or a re-INVITE
                self._answer(request, peer, Step(self._seen[call] or "200 OK", sdp=True))
                return
            self._seen[call] = "100 Trying"
            self.invites.append(request)
            thread = threading.Thread(target=self._play, args=(request, peer), name="sip-phone-call", daemon=True)
            self._threads.append(thread)
            thread.start()
        elif request.method == "CANCEL":
            self.cancelled += 1
            self._ended.add(call)
            self._answer(request, peer, Step("200 OK"))
            invite = next(each for each in self.invites if each.get("Call-ID") == call)
            self._answer(invite, peer, Step("487 Request Terminated"))
        elif request.method != "ACK":
            self._ended.add(call)
            self._answer(request, peer, Step("200 OK"))

    def _play(self, invite: Request, peer: tuple[str, int]) -> None:
        for step in self.steps:
            until = time.monotonic() + step.after
            while (left := until - time.monotonic()) > 0:
                if self._stopping.wait(min(left, 0.05)) or invite.get("Call-ID") in self._ended:
                    return
            self._answer(invite, peer, step)

    def _answer(self, request: Request, peer: tuple[str, int], step: Step) -> None:
        lines = [f"SIP/2.0 {step.status}", *(f"Via: {each}" for each in request.all("Via"))]
        to = request.get("To")
        lines += [
            f"From: {request.get('From')}", f"To: {to}" if "tag=" in to else f"To: {to};tag=phone",
            f"Call-ID: {request.get('Call-ID')}", f"CSeq: {request.get('CSeq')}",
            f"Contact: <sip:phone@{self.address}>",
        ]  # fmt: skip
        body = ""
        if step.sdp:
            body = CRLF.join([
                "v=0", "o=phone 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", "m=audio 9 RTP/AVP 0", "",
            ])  # fmt: skip
            lines.append("Content-Type: application/sdp")
        lines.append(f"Content-Length: {len(body)}")
        if request.method == "INVITE":
            self._seen[request.get("Call-ID")] = step.status
        self._socket.sendto((CRLF.join(lines) + 2 * CRLF + body).encode(), peer)


class Caller:
    """One call from the user `name`: an INVITE with any Request-URI, its answers, and the end."""

    def __init__(self, port: int, name: str, uri: str, to: str = "") -> None:
        self._peer = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self._name, self._uri, self._to = name, uri, to or uri
        self.statuses: list[int] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sip-caller", daemon=True)
        self._thread.start()

    @property
    def _me(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def _text(self, method: str, branch: str, to: str, body: str = "") -> bytes:
        lines = [
            f"{method} {self._uri} SIP/2.0", f"Via: SIP/2.0/UDP {self._me};branch=z9hG4bK{branch}",
            f"From: <sip:{self._name}@{self._me}>;tag=caller", to, f"Call-ID: {self._name}@{self._me}",
            f"CSeq: 1 {method}", f"Contact: <sip:{self._name}@{self._me}>", "Max-Forwards: 70",
            *(["Content-Type: application/sdp"] if body else []), f"Content-Length: {len(body)}",
        ]  # fmt: skip
        return (CRLF.join(lines) + 2 * CRLF + body).encode()

    def _run(self) -> None:
        to = f"To: <{self._to}>"
        sdp = CRLF.join([
            "v=0", "o=caller 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", "m=audio 9 RTP/AVP 0", "",
        ])  # fmt: skip
        invite = self._text("INVITE", "invite", to, sdp)
        again = time.monotonic()
        while not self._stopping.is_set():
            if not self.statuses and time.monotonic() >= again:
                self._socket.sendto(invite, self._peer)
                again += 0.5
            try:
                text = self._socket.recv(65536).decode(errors="replace")
            except (TimeoutError, ConnectionError):
                continue
            if not text.startswith("SIP/2.0 "):  # a BYE, say
                request = parse(text.encode())
                if request is not None:
                    copied = [f"{key}: {value}" for key, value in request.headers
                              if key.lower() in ("via", "from", "to", "call-id", "cseq")]  # fmt: skip
                    answer = CRLF.join(["SIP/2.0 200 OK", *copied, "Content-Length: 0"]) + 2 * CRLF
                    self._socket.sendto(answer.encode(), self._peer)
                continue
            self.statuses.append(int(text[8:11]))
            if self.statuses[-1] >= 200:
                answered = next(line for line in text.split(CRLF) if line.lower().startswith("to:"))
                branch = "ack" if self.statuses[-1] < 300 else "invite"
                self._socket.sendto(self._text("ACK", branch, answered), self._peer)

    def close(self) -> None:
        """Forget the call; the other side is to end it."""
        self._stopping.set()
        self._thread.join(10)
        self._socket.close()


def register(port: int, user: str, expires: int = 300) -> int:
    """Register `user` with the SIP profile on `port`, which accepts him without a password; the status it answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(0.5)
        me = f"127.0.0.1:{phone.getsockname()[1]}"
        lines = [
            f"REGISTER sip:127.0.0.1:{port} SIP/2.0", f"Via: SIP/2.0/UDP {me};branch=z9hG4bK{user}",
            f"From: <sip:{user}@127.0.0.1>;tag={user}", f"To: <sip:{user}@127.0.0.1>", f"Call-ID: register-{user}",
            "CSeq: 1 REGISTER", f"Contact: <sip:{user}@{me}>", f"Expires: {expires}", "Max-Forwards: 70",
            "Content-Length: 0",
        ]  # fmt: skip
        for _ in range(40):
            phone.sendto((CRLF.join(lines) + 2 * CRLF).encode(), ("127.0.0.1", port))
            try:
                return int(phone.recv(65536)[8:11])
            except (TimeoutError, ConnectionError):
                continue
    raise TimeoutError(f"no answer to the REGISTER of {user}")
