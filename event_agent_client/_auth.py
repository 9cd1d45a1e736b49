"""Who we are to a NATS server: token, user and password, NKey, or a .creds file (JWT and seed).

Source of the encodings: https://docs.nats.io/using-nats/developer/connecting/nkey and nkeys' own `strkey.go`.
Nothing in here may show a secret: faults name the file or the argument, never what is in it.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from event_agent_client.errors import ConfigError

_SEED_PREFIX = 18 << 3  # 'S' in base32
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----\s*(\S+)\s*-----+END [A-Z ]+-+")


@dataclass(frozen=True)
class Identity:
    """What is put into CONNECT. A .creds file wins over an NKey, an NKey over a token."""

    token: str = field(default="", repr=False)
    nkey_seed: str = field(default="", repr=False)
    creds: str = ""

    def check(self) -> None:
        """Raises ConfigError for what can't be used."""
        if self.creds:
            self._blocks()
        elif self.nkey_seed:
            _key(self.nkey_seed, "nkey_seed")

    def fields(self, nonce: object) -> dict[str, Any]:
        """For CONNECT to a server whose INFO has this nonce. A .creds file is read anew: a JWT is replaced in time."""
        if self.creds:
            jwt, seed = self._blocks()
            return {"jwt": jwt, **_signed(_key(seed, f"creds: {self.creds}"), nonce)}
        if self.nkey_seed:
            key = _key(self.nkey_seed, "nkey_seed")
            return {"nkey": _public(bytes(key.verify_key)), **_signed(key, nonce)}
        return {"auth_token": self.token} if self.token else {}

    def _blocks(self) -> tuple[str, str]:
        try:
            blocks = dict(_BLOCK.findall(Path(self.creds).read_text(encoding="ascii", errors="replace")))
        except OSError as error:
            raise ConfigError(f"creds: {self.creds} can't be read: {error.strerror}") from None
        jwt, seed = blocks.get("NATS USER JWT"), blocks.get("USER NKEY SEED")
        if not jwt or not seed:
            raise ConfigError(f"creds: {self.creds} holds no NATS USER JWT with its USER NKEY SEED")
        return jwt, seed


def _signed(key: Any, nonce: object) -> dict[str, str]:
    if not isinstance(nonce, str):
        return {}
    return {"sig": base64.urlsafe_b64encode(key.sign(nonce.encode()).signature).rstrip(b"=").decode()}


def _key(text: str, where: str) -> Any:
    text = text.strip()
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        raw = b""
    if len(raw) != 36 or raw[0] & 0xF8 != _SEED_PREFIX or _crc(raw[:-2]) != raw[-2:]:
        raise ConfigError(f"{where} is no valid NKey seed (58 characters that begin with SU)")
    try:
        from nacl.signing import SigningKey  # only who uses NKeys needs it
    except ImportError:
        raise ConfigError("NKeys and .creds files need PyNaCl (Debian: python3-nacl)") from None
    return SigningKey(raw[2:34])


def _public(key: bytes) -> str:
    """The `U…` name of a user's public key."""
    raw = bytes([20 << 3]) + key
    return base64.b32encode(raw + _crc(raw)).rstrip(b"=").decode()


def _crc(data: bytes) -> bytes:
    """CRC-16/XMODEM, the check of all NKeys."""
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")
