"""Who we are to a NATS server, and who it is to us: NKey, .creds, user and token in the URL, TLS, IPv6."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from event_agent.drivers.nats.auth import public_nkey
from tests.functional.conftest import Switch
from tests.functional.nats_keys import USER, Key, account_of_one, creds_of
from tests.functional.parts import Agent, Client, NatsServer, needs_nats_server
from tests.functional.proxy import Proxy
from tests.support import free_port, until

Start = Callable[..., Agent]


@pytest.fixture
def server() -> Iterator[Callable[..., NatsServer]]:
    """Starts nats-servers that are ended after the test."""
    servers: list[NatsServer] = []

    def start(*options: str, config: str = "") -> NatsServer:
        servers.append(NatsServer(*options, config=config).start())
        return servers[-1]

    yield start
    for each in servers:
        each.stop()


def answers(url: str, **options: Any) -> bool:
    client = Client(url, **options)
    try:
        return bool(client.request("version")["success"])
    finally:
        client.close()


def test_nkey(server: Callable[..., NatsServer], switch: Switch, start_agent: Start) -> None:
    key = Key("U")
    assert public_nkey(bytes(key.signing.verify_key)) == key.public
    nats = server(config=f"authorization {{ users = [ {{nkey: {key.public}}}, {{user: t, password: t}} ] }}\n")
    agent = start_agent(nats, switch, nkey_seed=key.seed)
    assert answers(nats.url, user="t", password="t") and key.seed not in agent.log
    agent.stop()
    other = start_agent(nats, switch, ready=False, nkey_seed=Key("U").seed)
    other.logged("Authorization Violation")


def test_creds(server: Callable[..., NatsServer], switch: Switch, start_agent: Start, tmp_path: Path) -> None:
    config, text, user, user_jwt = account_of_one()
    nats = server(config=config)
    creds = tmp_path / "agent.creds"
    creds.write_text(text)
    start_agent(nats, switch, creds=str(creds))

    def signed(nonce: str) -> bytes:
        return base64.b64encode(user.signing.sign(nonce.encode()).signature)

    assert answers(nats.url, user_jwt_cb=user_jwt.encode, signature_cb=signed)


def test_creds_that_expire_and_are_renewed(
    server: Callable[..., NatsServer], switch: Switch, start_agent: Start, tmp_path: Path
) -> None:
    """The log says why the link ended; to renew the file, nobody has to restart the agent."""
    account, user = Key("A"), Key("U")
    config, _, _, _ = account_of_one(account)
    nats = server(config=config)
    creds = tmp_path / "agent.creds"
    creds.write_text(creds_of(user, account.jwt(user, "agent", USER, 4)))
    agent = start_agent(nats, switch, creds=str(creds), reconnect_wait="0.1")
    agent.logged("(?i)NATS lost: user authentication expired")
    agent.logged("NATS at .*; retrying")
    creds.write_text("half of a fi")
    creds.write_text(creds_of(user, account.jwt(user, "agent", USER)))
    agent.logged("NATS connected", 2)
    # One line a fault: the server has two ways to refuse it, and that half of a file was there may have been seen.
    lines = [line.partition(" WARNING ")[2] for line in agent.logged("NATS at .*; retrying")]
    assert len(set(lines)) == len(lines) <= 3, lines


@pytest.mark.parametrize("secret", ["plain", "p@ss/w:rd%41 ü"])
def test_token_and_password_in_the_url(
    server: Callable[..., NatsServer], switch: Switch, start_agent: Start, secret: str
) -> None:
    from urllib.parse import quote

    escaped = quote(secret, safe="")
    by_token = server(config=f'authorization {{ token: "{secret}" }}\n')
    agent = start_agent(by_token, switch, url=f"nats://{escaped}@127.0.0.1:{by_token.port}")
    assert answers(by_token.url, token=secret) and secret not in agent.log
    by_user = server(config=f'authorization {{ user: "{secret}", password: "{secret}" }}\n')
    start_agent(by_user, switch, url=f"nats://{escaped}:{escaped}@127.0.0.1:{by_user.port}")
    assert answers(by_user.url, user=secret, password=secret)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, server.pem/key, client.pem/key, and other.pem, a CA that signed nothing."""
    assert shutil.which("openssl"), "this test makes its certificates with openssl"
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    for name in ("server", "client", "named"):
        (folder / "san").write_text(f"subjectAltName={'' if name == 'named' else 'IP:127.0.0.1,'}DNS:localhost\n")
        openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
                "-extfile", "san", "-out", f"{name}.pem")  # fmt: skip
    return folder


def tls(folder: Path, verify: str = "false") -> str:
    return (
        f'tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", '
        f'ca_file: "{folder}/ca.pem", verify: {verify} }}\n'
    )


def test_tls_is_verified(
    server: Callable[..., NatsServer], switch: Switch, start_agent: Start, authority: Path
) -> None:
    nats = server(config=tls(authority))
    url = f"tls://127.0.0.1:{nats.port}"
    for wrong in ({"tls_ca": str(authority / "other.pem")}, {}):
        start_agent(nats, switch, ready=False, url=url, **wrong).logged("certificate is not signed by an authority in")
    agent = start_agent(nats, switch, url=url, tls_ca=str(authority / "ca.pem"))
    client = Client(f"tls://127.0.0.1:{nats.port}", tls=client_context(authority))
    try:
        assert client.request("echo", "x" * 60000)["data"] == "x" * 60000
        got = client.gather("tls.flood")
        client.publish_all("freeswitch.api", [b'{"command":"uptime"}'] * 5000, reply="tls.flood")
        until(lambda: len(got) == 5000, "5,000 replies", 30)
    finally:
        client.close()
    assert agent.stop() == 0
    start_agent(nats, switch, url=url, tls_verify="false")


class TlsFirst(NatsServer):
    """One with `handshake_first`: greets those who begin TLS, others late or never."""

    def greets(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as plain:
            with context.wrap_socket(plain) as probe:
                return probe.recv(4) == b"INFO"
        return False


@pytest.mark.parametrize("first", ["true", '"auto"', '"300ms"', '"3s"'])
def test_tls_comes_before_the_greeting(switch: Switch, start_agent: Start, authority: Path, first: str) -> None:
    needs_nats_server(2, 10)
    config = tls(authority).replace("verify:", f"handshake_first: {first}, verify:")
    nats = TlsFirst(config=config).start()
    try:
        url, files = f"tls://127.0.0.1:{nats.port}", {"tls_ca": str(authority / "ca.pem"), "reconnect_wait": "0.1"}
        keys = {"tls_cert": str(authority / "client.pem"), "tls_key": str(authority / "client.key")}
        agent = start_agent(nats, switch, url=url, **files, **keys)
        assert answers(url, tls=client_context(authority), tls_handshake_first=True)
        nats.kill()
        agent.logged("NATS lost: ")
        nats.start()
        agent.logged("NATS connected", 2)
        assert answers(url, tls=client_context(authority), tls_handshake_first=True)
        # By a URL without tls:// it is found out where the server greets in the clear after a while.
        plain = start_agent(nats, switch, ready=first != "true", url=nats.url, **files, **keys, node_id="plain")
        if first == "true":
            plain.logged("NATS at .*: the server closed the connection without a greeting .does it want tls:// in url")
        assert agent.stop() == 0
    finally:
        nats.stop()


def client_context(folder: Path) -> Any:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # what openssl makes by itself is not enough for Python 3.13
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return context


def test_tls_with_a_client_certificate(
    server: Callable[..., NatsServer], switch: Switch, start_agent: Start, authority: Path
) -> None:
    nats = server(config=tls(authority, "true"))
    url, files = f"tls://localhost:{nats.port}", {"tls_ca": str(authority / "ca.pem")}
    start_agent(nats, switch, ready=False, url=url, **files).logged(
        "NATS at .*: the server wants a certificate of ours .tls_cert, tls_key.; retrying"
    )
    start_agent(
        nats, switch, url=url, **files, tls_cert=str(authority / "client.pem"), tls_key=str(authority / "client.key")
    )


def test_a_server_that_the_cluster_tells_of_by_its_address(
    server: Callable[..., NatsServer], switch: Switch, start_agent: Start, authority: Path
) -> None:
    """Certificates are for names: the address has to prove the name that was configured, and does."""
    routes = [free_port(), free_port()]
    urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    config = f'tls {{ cert_file: "{authority}/named.pem", key_file: "{authority}/named.key" }}\n'
    first, second = (
        server("--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{port}", "--routes", urls, config=config)
        for port in routes
    )
    files = {"tls_ca": str(authority / "ca.pem"), "reconnect_wait": "0.1"}
    wrong = start_agent(first, switch, ready=False, url=f"tls://127.0.0.1:{first.port}", **files)
    wrong.logged("certificate is not for 127.0.0.1, the name in url; retrying")
    until(lambda: _told_of_both(first.port), "it tells of both")
    agent = start_agent(first, switch, url=f"tls://localhost:{first.port}", **files)
    first.kill()
    agent.logged(f"NATS connected: tls://127.0.0.1:{second.port}")


def test_tls_through_a_bad_line(
    server: Callable[..., NatsServer], switch: Switch, start_agent: Start, authority: Path
) -> None:
    """Trickling, delayed, stalled, cut: what TLS does to the bytes changes nothing of what is answered."""
    nats = server(config=tls(authority))
    client = Client(f"tls://127.0.0.1:{nats.port}", tls=client_context(authority))
    try:
        with Proxy(nats.port) as proxy:
            files = {"tls_ca": str(authority / "ca.pem"), "reconnect_wait": "0.1", "ping_interval": "0.5"}
            agent = start_agent(nats, switch, url=f"tls://127.0.0.1:{proxy.port}", **files)
            proxy.trickle = True
            assert client.request("echo", "x" * 3000)["data"] == "x" * 3000
            proxy.trickle, proxy.delay = False, 0.05
            assert client.request("echo", "y" * 30000)["data"] == "y" * 30000
            proxy.delay = 0.0
            proxy.cut()
            agent.logged("NATS connected", 2)
            assert client.request("version", _timeout=10)["success"] is True
            proxy.stall()
            agent.logged("NATS lost: the server did not answer a PING within")
            proxy.drop()
            agent.logged("NATS connected", 3)
            assert agent.stop() == 0
    finally:
        client.close()


def _told_of_both(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 5) as probe:
        info = probe.makefile("rb").readline()
    return len(json.loads(info[5:]).get("connect_urls", [])) == 2


def test_ipv6(server: Callable[..., NatsServer], switch: Switch, start_agent: Start) -> None:
    nats = NatsServer("-a", "::1")
    nats.greets = lambda: "Server is ready" in nats.log  # type: ignore[method-assign]
    nats.start()
    try:
        start_agent(nats, switch, url=f"nats://[::1]:{nats.port}")
        assert answers(f"nats://[::1]:{nats.port}")
    finally:
        nats.stop()


def test_a_file_written_for_the_module_starts_the_agent_unchanged(
    nats: NatsServer, switch: Switch, start_agent: Start
) -> None:
    agent = start_agent(nats, switch, ready=False, subject_prefix="unused")
    agent.kill()
    agent.config = Path(__file__).parent.parent / "fixtures" / "mod_event_agent.conf.xml"
    for name in ("URL", "NODE_ID", "SUBJECT_PREFIX"):
        del agent.environ[f"MOD_EVENT_AGENT_{name}"]
    agent.environ |= {"nats_host": "127.0.0.1", "nats_port": str(nats.port), "agent_node_id": "from-the-module"}
    agent.start()
    client = Client(nats.url)
    try:
        reply = client.request("version", None, "freeswitch.node.from_the_module")
        assert reply["success"] is True and reply["node_id"] == "from-the-module"
    finally:
        client.close()


def test_a_subscription_that_is_refused_or_taken_away_is_tried_again(
    server: Callable[..., NatsServer], switch: Switch, start_agent: Start
) -> None:
    def config(*subjects: str) -> str:
        allowed = ", ".join(f'"{each}"' for each in ("$SRV.>", "_INBOX.>", *subjects))
        permissions = f'publish: ">", subscribe: [{allowed}]'
        users = f"{{user: a, password: a, permissions: {{ {permissions} }} }}, {{user: c, password: c}}"
        return f"authorization {{ users = [ {users} ] }}\n"

    every = ("freeswitch.api", "freeswitch.api.*", "freeswitch.node.*", "freeswitch.any freeswitch.any")
    nats = server(config=config(*every[1:]))
    agent = start_agent(nats, switch, url=f"nats://a:a@127.0.0.1:{nats.port}", call_lanes="false")
    client = Client(nats.url, user="c", password="c")

    def refused() -> list[str]:
        status = client.request("agent.status", subject="freeswitch.node.fs_node_01")["data"]["nats"]
        return list(status["subscriptions_refused"])

    def change(*subjects: str) -> None:
        (nats.folder / "conf").write_text(config(*subjects))
        nats.signal(signal.SIGHUP)

    try:
        until(lambda: refused() == ["freeswitch.api"], "it shows")
        change(*every)
        agent.logged("NATS server accepts the subscription to freeswitch.api", timeout=30)
        until(lambda: refused() == [], "it holds")
        assert client.request("version")["success"] is True
        change(*every[:3])
        until(lambda: refused() == ["freeswitch.any"], "what is taken away shows", 30)
        change(*every)
        until(lambda: refused() == [], "it is back", 30)
        assert client.request("version", subject="freeswitch.any")["success"] is True
        assert len(agent.logged("NATS connected")) == 1, "the link has held all the time"
    finally:
        client.close()
