"""Keys and JWTs of NATS for tests, made on the spot. Needs PyNaCl, and nothing else that Python does not have."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from typing import Any

from nacl.signing import SigningKey


def encoded(prefix: bytes, key: bytes) -> str:
    raw = prefix + key
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).rstrip(b"=").decode()


class Key:
    """A key pair of NATS: kind is 'O'perator, 'A'ccount or 'U'ser."""

    PREFIX = {"O": 14 << 3, "A": 0, "U": 20 << 3}

    def __init__(self, kind: str) -> None:
        self.signing = SigningKey.generate()
        prefix = self.PREFIX[kind]
        self.public = encoded(bytes([prefix]), bytes(self.signing.verify_key))
        self.seed = encoded(bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3]), bytes(self.signing))

    def jwt(self, subject: Key, name: str, nats: dict[str, Any], seconds: float = 0) -> str:
        """Claims of ours about `subject`, for so many seconds. Source: the nats-io/jwt library, version 2."""

        def part(value: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

        claims = {"iat": int(time.time()), "iss": self.public, "name": name, "sub": subject.public, "nats": nats}
        if seconds:
            claims["exp"] = int(time.time() + seconds)
        digest = hashlib.sha512(json.dumps(claims).encode()).digest()[:32]
        claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
        body = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part(claims)}"
        return f"{body}.{base64.urlsafe_b64encode(self.signing.sign(body.encode()).signature).rstrip(b'=').decode()}"


def creds_of(user: Key, user_jwt: str) -> str:
    """The text of a .creds file."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )


USER = {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2}


def account_of_one(account: Key | None = None) -> tuple[str, str, Key, str]:
    """A server's configuration for an operator with one account, with one user: it, the .creds, the key, the JWT."""
    operator, account, user = Key("O"), account or Key("A"), Key("U")
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1) | {"wildcards": True}
    account_jwt = operator.jwt(account, "A", {"limits": limits, "type": "account", "version": 2})
    user_jwt = account.jwt(user, "agent", USER)
    config = (
        f"operator: {operator.jwt(operator, 'O', {'type': 'operator', 'version': 2})}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {account.public}: {account_jwt} }}\n"
    )
    return config, creds_of(user, user_jwt), user, user_jwt
