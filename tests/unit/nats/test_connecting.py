"""How the driver gets a link, and what is said when it gets none."""

from __future__ import annotations

import re
import socket

import pytest

from event_agent.drivers.nats.auth import Credentials
from event_agent.drivers.nats.timing import Timing
from tests.fakes.nats import FakeNats
from tests.support import until
from tests.unit.nats.conftest import Start


def test_connect_says_who_we_are(server: FakeNats, start: Start) -> None:
    under = start(server.url.replace("//", "//me:p%40ss@"))
    link = under.connect(server)
    options = link.options
    assert (options["user"], options["pass"]) == ("me", "p@ss")
    assert (options["protocol"], options["headers"], options["no_responders"]) == (1, True, True)
    assert options["verbose"] is False and options["name"].startswith("event-agent/")
    assert under.driver.status.up and under.driver.max_payload == 1000
    assert under.driver.stats()["server"] == "FAKE"


def test_a_token(server: FakeNats, start: Start) -> None:
    link = start(server.url, credentials=Credentials(token="t0ken")).connect(server)
    assert link.options["auth_token"] == "t0ken"


def test_a_refusal_is_logged_and_retried(server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    under = start(server.url.replace("//", "//me:secret@"))
    under.driver.start()
    for _ in range(3):
        link = server.accept(pongs=False)
        until(lambda link=link: b"PING" in link.lines, "its first words")  # type: ignore[misc]
        link.send(b"-ERR 'Authorization Violation'\r\n")
        link.close()
    assert not under.driver.status.up and not under.ups
    server.accept()
    until(lambda: under.ups, "up at last")
    assert caplog.text.count("Authorization Violation") == 1, "the same is not told again and again"
    assert "secret" not in caplog.text


def test_what_a_server_said_before_it_closed_is_heard(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """It closes at once; that we can't write to it any more is not what there is to say."""
    under = start(server.url)
    under.driver.start()
    for _ in range(20):
        link = server.accept(greet=False)
        link.send(b"INFO {}\r\n-ERR 'maximum connections exceeded'\r\n")
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\0" * 8)
        link.close()
    server.accept()
    until(lambda: under.ups, "the next try")
    assert caplog.text.count("maximum connections exceeded") == 1
    assert not re.search("pipe|reset|closed", caplog.text)


def test_what_comes_with_the_last_word_of_the_handshake_is_heard(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.start()
    link = server.accept(pongs=False)
    until(lambda: b"PING" in link.lines, "its first words")
    link.send(b'PONG\r\nINFO {"max_payload":77}\r\nPING\r\n')
    until(lambda: under.ups and b"PONG" in link.lines, "up, and the PING was answered")
    assert under.driver.max_payload == 77


def test_it_is_up_when_the_server_has_the_subscriptions(server: FakeNats, start: Start) -> None:
    """Whoever hears that it is up may send a request at once."""
    under = start(server.url, timing=Timing(settle=60.0))
    under.driver.subscribe("a", under.take)
    under.driver.start()
    link = server.accept(pongs=False)
    until(lambda: link.lines[1:] == [b"PING"], "its first words")
    link.send(b"PONG\r\n")
    until(lambda: link.lines[2:] == [b"SUB a 1", b"PING"], "it asks whether that has come")
    assert not under.ups and not under.driver.status.up
    link.send(b"PONG\r\n")
    until(lambda: under.ups, "up")
    link.pongs = True  # for the end


def test_a_server_that_does_not_say_so_is_taken_all_the_same(server: FakeNats, start: Start) -> None:
    under = start(server.url)
    under.driver.start()
    link = server.accept(pongs=False)
    until(lambda: b"PING" in link.lines, "its first words")
    link.send(b"PONG\r\n")
    until(lambda: under.ups, "up")
    link.pongs = True  # for the end
    link.send(b"PONG\r\n")


@pytest.mark.parametrize("hello", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {\r\n", b"INFO []\r\n", b"",
                                   b"INFO " + b"[" * 100000 + b"\r\n"])
def test_who_is_no_nats_server(server: FakeNats, start: Start, hello: bytes) -> None:
    under = start(server.url)
    under.driver.start()
    link = server.accept(greet=False)
    link.send(hello)
    link.close()
    server.accept()
    until(lambda: under.ups == 1, "the next try")


def test_a_server_that_refuses_right_behind_its_greeting_is_understood(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    under = start(server.url)
    under.driver.start()
    link = server.accept(greet=False)
    link.send(b"INFO {}\r\n-ERR 'maximum connections exceeded'\r\n")
    link.close()
    server.accept()
    until(lambda: under.ups == 1, "the next try")
    assert "maximum connections exceeded; retrying" in caplog.text


def test_it_gives_up_if_it_is_configured_to(server: FakeNats, start: Start) -> None:
    server.close()
    under = start(server.url, max_reconnect=2)
    under.driver.start()
    until(lambda: under.gave_up, "given up")
    assert "max_reconnect" in under.gave_up[0] and len(under.gave_up) == 1
    assert under.publish("a", b"x") == 1, "kept, and no fault"


def test_several_servers(server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    away = FakeNats()
    away.close()
    under = start(away.url, server.url)
    under.connect(server)
    assert "NATS configured with 2 servers (cluster failover)" in caplog.text


def test_a_connect_that_is_too_long_is_explained(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """It is sent all the same: the server may be set up for it."""
    under = start(server.url, credentials=Credentials(token="t" * 5000))
    under.driver.start()
    link = server.accept(pongs=False)
    until(lambda: link.lines, "CONNECT")
    link.send(b"-ERR 'maximum control line exceeded'\r\n")
    until(lambda: "raise max_control_line there" in caplog.text, "explained")
    assert re.search(r"CONNECT has 5\d\d\d bytes", caplog.text) and "tttt" not in caplog.text
