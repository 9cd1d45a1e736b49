"""Who we are to a NATS server: token, user and password, NKey, or a .creds file (JWT and seed).

Source of the encodings: https://docs.nats.io/using-nats/developer/connecting/nkey and nkeys' own `strkey.go`.
Nothing in here may show a secret: faults name the file or the setting, never what is in it.
"""

from __future__ import annotations

import base64
import logging
import os
import re
from dataclasses import dataclass
from typing import Any

from event_agent import __version__
from event_agent.config.files import forbidden
from event_agent.errors import ConfigError, LinkError
from event_agent.runtime.log import Seldom

log = logging.getLogger(__name__)

_unread = Seldom(3600.0)
_SEED_PREFIX = 18 << 3  # 'S' in base32
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----\s*(\S+)\s*-----+END [A-Z ]+-+")


@dataclass(frozen=True)
class Credentials:
    """What is put into CONNECT, and the seed that signs the server's nonce."""

    token: str = ""
    seed: bytes = b""  # 32 bytes of an Ed25519 seed
    jwt: str = ""
    file: str = ""  # the .creds file they are from

    def __repr__(self) -> str:
        return "Credentials(********)"

    @property
    def setting(self) -> str:
        """The setting that they are from, which wins over the others; "" if there are none."""
        if self.file:
            return f"creds: {self.file}"
        return "nkey_seed" if self.seed else "token" if self.token else ""

    def renewed(self) -> Credentials:
        """As the .creds file has them now, because a JWT expires and is replaced; as they were if it can't be read."""
        if not self.file:
            return self
        try:
            return credentials("", "", self.file)
        except ConfigError as fault:
            if _unread.due():
                log.warning("%s; those read before are used", fault)  # the server will say whether they still do
            return self

    def connect_fields(self, info: dict[str, Any]) -> dict[str, Any]:
        """Fields of CONNECT for a server that sent this INFO. Raises LinkError."""
        if not self.seed:
            return {"auth_token": self.token} if self.token else {}
        nonce = info.get("nonce")
        if not isinstance(nonce, str):
            return {"jwt": self.jwt} if self.jwt else {}  # a server that asks for no signature
        key = _signing_key(self.seed)
        signature = key.sign(nonce.encode()).signature
        fields = {"sig": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}
        if self.jwt:
            fields["jwt"] = self.jwt
        else:
            fields["nkey"] = public_nkey(bytes(key.verify_key))
        return fields


def client_name() -> str:
    """How we call ourselves to the server, for its monitoring."""
    return f"event-agent/{__version__} pid={os.getpid()}"


def credentials(token: str, nkey_seed: str, creds: str) -> Credentials:
    """From the settings; a .creds file wins over an NKey, an NKey over a token. Raises ConfigError."""
    if creds:
        try:
            with open(creds, encoding="ascii", errors="replace") as file:
                blocks = dict(_BLOCK.findall(file.read(65536)))
        except OSError as error:
            why = forbidden(creds) or f"{creds} can't be read: {error.strerror}"
            raise ConfigError([f"creds: {why}"]) from None
        jwt, seed = blocks.get("NATS USER JWT"), blocks.get("USER NKEY SEED")
        if not jwt or not seed:
            raise ConfigError([
                f"creds: {creds} holds no NATS USER JWT with its USER NKEY SEED; nsc generate creds writes such a file"
            ])  # fmt: skip
        return Credentials(seed=decode_seed(seed, f"creds: {creds}"), jwt=jwt, file=creds)
    if nkey_seed:
        return Credentials(seed=decode_seed(nkey_seed, "nkey_seed"))
    return Credentials(token=token)


def decode_seed(text: str, where: str) -> bytes:
    """The 32 bytes in an encoded NKey seed (`SU…`). Raises ConfigError naming `where`."""
    try:
        raw = base64.b32decode(text.strip() + "=" * (-len(text.strip()) % 8))
    except ValueError:
        raw = b""
    if len(raw) != 36 or raw[0] & 0xF8 != _SEED_PREFIX or crc16(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
        raise ConfigError([
            f"{where} is no valid NKey seed (58 characters that begin with SU); copy it again or make one: nk -gen user"
        ])  # fmt: skip
    return raw[2:34]


def public_nkey(key: bytes) -> str:
    """The `U…` name of a user's public key."""
    raw = bytes([20 << 3]) + key
    raw += crc16(raw).to_bytes(2, "little")
    return base64.b32encode(raw).rstrip(b"=").decode()


def crc16(data: bytes) -> int:
    """CRC-16/XMODEM, the check of all NKeys."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def _signing_key(seed: bytes) -> Any:
    try:
        from nacl.signing import SigningKey  # only who uses NKeys needs it
    except ImportError:
        raise LinkError("NKeys and .creds files need PyNaCl (Debian: python3-nacl)") from None
    return SigningKey(seed)
