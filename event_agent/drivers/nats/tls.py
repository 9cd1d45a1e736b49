"""TLS on the connection to a NATS server. A module of its own because it costs 4 MB: imported where TLS is wanted."""

from __future__ import annotations

import select
import ssl
import threading

from event_agent.drivers.nats.socket import TURN, NatsSocket, TlsOptions
from event_agent.errors import LinkError


class TlsSocket(NatsSocket):
    """What NatsSocket does, encrypted. It does not wait, ever: TLS knows no MSG_DONTWAIT."""

    def __init__(self, plain: NatsSocket, options: TlsOptions, name: str) -> None:
        """Takes over the connection of `plain`. `name`: what the certificate must stand for. Raises LinkError."""
        self._take_over(plain)
        try:
            context = ssl.create_default_context(cafile=options.ca or None)
            # On by default since Python 3.13: certificates made with openssl alone fail it; other clients take them.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if not options.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if options.cert:
                context.load_cert_chain(options.cert, options.key or None)
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
        except (OSError, ValueError) as error:
            raise LinkError(str(error) or type(error).__name__) from None
        self._lock = threading.Lock()  # an SSL object may not be read and written at one time

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
        """See NatsSocket."""
        try:
            with self._lock:
                return self.socket.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as error:
            self.abort()
            raise LinkError(error.strerror or str(error)) from None
