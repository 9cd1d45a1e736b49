"""TLS on the connection to a NATS server. A module of its own because it costs 4 MB: imported where TLS is wanted.

A server greets in the clear (INFO), and TLS begins then. With `handshake_first` in its configuration TLS comes first:
it never greets (true), or only a client that waits for it ("auto", a duration). Both are served without a setting: we
wait for a greeting, and begin TLS if there is none. If it comes after that, it comes before what TLS answers.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time

from event_agent.config.files import forbidden
from event_agent.drivers.nats.socket import TURN, NatsSocket, TlsOptions
from event_agent.errors import LinkError

MAX_GREETING = 65536  # bytes of an INFO

# https://www.openssl.org/docs/man3.0/man3/X509_STORE_CTX_get_error.html
_NOT_SIGNED = frozenset((2, 18, 19, 20, 21, 24))  # nobody whom we trust has signed it
_NOT_YET, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
# Alerts of the server, as OpenSSL calls them, to what we have shown or not shown.
_WANTS_OURS = frozenset(("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_NO_CERTIFICATE"))
_NOT_OURS = frozenset(
    (
        "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED", "TLSV1_ALERT_DECRYPT_ERROR",
    )
)  # fmt: skip

# OpenSSL's identifier of the error, X509_R_KEY_VALUES_MISMATCH without what all have in front; ssl gives no number.
WRONG_KEY = "KEY_VALUES_MISMATCH"


def begin(sock: socket.socket, options: TlsOptions, name: str) -> ssl.SSLSocket:
    """Take over a connected socket and send the first message of TLS; does not wait. Raises LinkError."""
    try:
        context = _context(options)
        sock.setblocking(False)
        wrapped = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        try:
            wrapped.do_handshake()
        except ssl.SSLWantReadError:
            pass
    except (OSError, ValueError) as error:
        raise explained(error, options, name) from None
    return wrapped


def _context(options: TlsOptions) -> ssl.SSLContext:
    """Raises LinkError, ValueError, OSError."""
    try:
        context = ssl.create_default_context(cafile=options.ca or None)
    except ssl.SSLError:
        raise LinkError(f"tls_ca: {options.ca} holds no certificate that can be read (PEM)") from None
    except OSError as error:
        raise LinkError(f"tls_ca: {_why(options.ca, error)}") from None
    # On by default since Python 3.13: certificates made with openssl alone fail it; other clients take them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.cert:
        _load_ours(context, options)
    return context


def _load_ours(context: ssl.SSLContext, options: TlsOptions) -> None:
    """Our certificate and its key. Raises LinkError."""
    try:
        # Without a password of ours OpenSSL asks the terminal for one.
        context.load_cert_chain(options.cert, options.key or None, password=lambda: "")
    except ssl.SSLError as error:
        raise LinkError(_wrong_pair(options, error)) from None
    except OSError as error:
        for setting, file in (("tls_cert", options.cert), ("tls_key", options.key)):
            if not os.access(file, os.R_OK):
                raise LinkError(f"{setting}: {_why(file, error)}") from None
        raise LinkError(f"tls_cert, tls_key: {error.strerror or error}") from None


def _wrong_pair(options: TlsOptions, error: ssl.SSLError) -> str:
    if error.reason == WRONG_KEY:
        return f"tls_key: {options.key} is not the key of the certificate in tls_cert ({options.cert})"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=options.cert)
    except (OSError, ValueError):
        return f"tls_cert: {options.cert} holds no certificate that can be read (PEM)"
    return f"tls_key: {options.key} holds no key that can be read (PEM, without a passphrase)"


def _why(file: str, error: OSError) -> str:
    return forbidden(file) or f"{file} can't be read: {error.strerror or error}"


def explained(error: OSError | ValueError, options: TlsOptions, name: str) -> LinkError:
    """What is wrong in the words of the settings, as far as the type and the number of the fault tell."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return LinkError(_unverified(error, options, name))
    if isinstance(error, ssl.SSLError):
        # Servers made with Go before 1.21 call a missing certificate a bad one.
        if error.reason in _WANTS_OURS or (error.reason in _NOT_OURS and not options.cert):
            return LinkError("the server wants a certificate of ours (tls_cert, tls_key)")
        if error.reason in _NOT_OURS:
            return LinkError(f"the server does not take the certificate in tls_cert ({options.cert}, {error.reason})")
        if isinstance(error, ssl.SSLEOFError):
            return LinkError("the server closed the connection during the TLS handshake")
    if isinstance(error, TimeoutError):
        return LinkError("the server does not answer the TLS handshake")
    return LinkError(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _unverified(error: ssl.SSLCertVerificationError, options: TlsOptions, name: str) -> str:
    code = error.verify_code
    if code in _NOT_SIGNED:
        store = f"tls_ca ({options.ca})" if options.ca else "the system's store (set tls_ca)"
        return f"the server's certificate is not signed by an authority in {store}"
    if code == _EXPIRED:
        return "the server's certificate has expired, by the clock of this machine"
    if code == _NOT_YET:
        return "the server's certificate is not valid yet, by the clock of this machine"
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        return f"the server's certificate is not for {name}, the name in url"
    return f"the server's certificate can't be trusted ({error.verify_message})"


class TlsSocket(NatsSocket):
    """What NatsSocket does, encrypted. It does not wait, ever: TLS knows no MSG_DONTWAIT."""

    def __init__(self, plain: NatsSocket, options: TlsOptions, name: str) -> None:
        """Takes over the connection of `plain`. `name`: what the certificate must stand for. Raises LinkError.

        `plain` may hold a socket on which TLS was begun.
        """
        limit = plain.socket.gettimeout()
        self._take_over(plain)
        self._options, self._name = options, name
        begun = plain.socket if isinstance(plain.socket, ssl.SSLSocket) else begin(plain.socket, options, name)
        self.socket = begun
        try:
            begun.settimeout(limit)
            begun.do_handshake()
        except (OSError, ValueError) as error:
            raise explained(error, options, name) from None
        self._lock = threading.Lock()  # an SSL object may not be read and written at one time
        self._begun = b""  # what TLS was given and has not written

    def receive_by(self, deadline: float) -> bytes:
        """See NatsSocket. With TLS 1.3 a server complains of our certificate when we think that all is well."""
        try:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            return self.socket.recv(TURN)
        except TimeoutError:
            raise LinkError("the server does not answer") from None
        except OSError as error:
            raise explained(error, self._options, self._name) from None

    def ready(self) -> None:
        """See NatsSocket."""
        super().ready()
        self.socket.settimeout(0.0)

    def receive(self) -> bytes:
        """See NatsSocket."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while (data := self.receive_now()) is None:
            poll.poll(60000)
        return data

    def receive_now(self) -> bytes | None:
        """See NatsSocket. TURN is more than a TLS record: nothing is left that the kernel does not know of."""
        try:
            with self._lock:
                size = self.socket.recv_into(self._buffer, TURN)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        return bytes(self._view[:size])

    def send_now(self, data: bytes) -> int:
        """See NatsSocket.

        What TLS has begun and could not write it has to be given again, the very same (SSL_write(3)), or bytes that
        it was given later are lost. Our caller may have something more urgent by then. So it hears that all but the
        last byte was taken, which then comes first, and what was begun is kept here.
        """
        try:
            with self._lock:
                if not self._begun:
                    return self._send(data)
                self._begun = self._begun[self.socket.send(self._begun) :]
                if self._begun:
                    return 0
                return 1 + (self._send(data[1:]) if len(data) > 1 else 0)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            self.abort()
            raise LinkError(error.strerror or str(error)) from None

    def _send(self, data: bytes) -> int:
        """Lock held. Raises OSError."""
        try:
            return self.socket.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._begun = data
            return len(data) - 1


def greeting(begun: socket.socket, deadline: float) -> bytes:
    """A line in the clear that came after TLS was begun; b"" if TLS is answered. Raises LinkError."""
    raw = socket.socket(fileno=os.dup(begun.fileno()))
    poll = select.poll()
    poll.register(raw, select.POLLIN)
    line = b""
    try:
        with raw:
            while not line.endswith(b"\r\n") and len(line) < MAX_GREETING:
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise LinkError("the server does not answer")
                seen = raw.recv(MAX_GREETING, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                if not line and (not seen or seen[0] < 0x20):  # a record of TLS begins with its type, 20 to 23
                    return b""
                if not seen:
                    raise LinkError("the server closed the connection")
                # Not a byte more: what follows is TLS's. A line break may be split.
                whole = line + seen
                end = whole.find(b"\r\n")
                size = len(seen) if end < 0 else end + 2 - len(line)
                line += raw.recv(size, socket.MSG_DONTWAIT)
    except OSError as error:
        raise LinkError(error.strerror or str(error)) from None
    return line
