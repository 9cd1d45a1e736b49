"""Who we are to a NATS server; and that nothing secret is ever shown."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.drivers.nats.auth import Credentials, crc16, credentials, decode_seed, public_nkey
from event_agent.errors import ConfigError, LinkError

nacl_signing = pytest.importorskip("nacl.signing")

# Of the nkeys project's own documentation.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
NO_SEED = "nkey_seed is no valid NKey seed (58 characters that begin with SU); copy it again or make one: nk -gen user"


def encoded(prefix: bytes, key: bytes) -> str:
    raw = prefix + key
    return base64.b32encode(raw + crc16(raw).to_bytes(2, "little")).rstrip(b"=").decode()


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        decode_seed(text, "nkey_seed")
    (fault,) = caught.value.faults
    return fault


def test_known_vectors() -> None:
    seed = decode_seed(SEED, "x")
    assert len(seed) == 32
    assert public_nkey(bytes(nacl_signing.SigningKey(seed).verify_key)) == PUBLIC
    assert decode_seed(f"  {SEED}\n", "x") == seed
    assert crc16(b"123456789") == 0x31C3  # the check value of CRC-16/XMODEM


@pytest.mark.parametrize(
    "text",
    [
        "", "S", "SU", SEED[:-1], SEED + "A", SEED.lower(), SEED[:-1] + "A", "X" + SEED[1:], PUBLIC, "SU" + "é" * 56,
        SEED.replace("C", "0", 1), "=" * 58, SEED[:20] + " " + SEED[20:], "SUé",
    ],
)  # fmt: skip
def test_a_bad_seed_is_never_shown(text: str) -> None:
    assert refused(text) == NO_SEED


@given(st.text(max_size=70) | st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=50, max_size=60))
def test_any_text_is_refused_in_one_way(text: str) -> None:
    fault = refused("SU" + text)
    assert fault == NO_SEED


@given(st.binary(min_size=32, max_size=32), st.integers(0, 57))
def test_one_wrong_letter_is_noticed(key: bytes, at: int) -> None:
    good = encoded(bytes([18 << 3 | 20 << 3 >> 5, 20 << 3 & 0xFF]), key)
    assert decode_seed(good, "x") == key
    wrong = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
    if base64.b32decode(wrong + "======"[: -len(wrong) % 8]) != base64.b32decode(good + "======"[: -len(good) % 8]):
        assert "no valid NKey seed" in refused(wrong)


def test_fields_of_connect() -> None:
    assert Credentials().connect_fields({"nonce": "n"}) == {}
    assert Credentials(token="t").connect_fields({}) == {"auth_token": "t"}
    seed = decode_seed(SEED, "x")
    fields = Credentials(seed=seed).connect_fields({"nonce": "the-nonce"})
    assert set(fields) == {"nkey", "sig"} and fields["nkey"] == PUBLIC
    assert "=" not in fields["sig"] and "+" not in fields["sig"] and "/" not in fields["sig"]
    signature = base64.urlsafe_b64decode(fields["sig"] + "==")
    nacl_signing.SigningKey(seed).verify_key.verify(b"the-nonce", signature)
    with_jwt = Credentials(seed=seed, jwt="the.jwt").connect_fields({"nonce": "the-nonce"})
    assert with_jwt == {"jwt": "the.jwt", "sig": fields["sig"]}
    for info in ({}, {"nonce": None}, {"nonce": 5}):  # a server that asks for no signature
        assert Credentials(seed=seed).connect_fields(info) == {}
        assert Credentials(seed=seed, jwt="the.jwt").connect_fields(info) == {"jwt": "the.jwt"}


def test_nothing_shows_a_secret() -> None:
    shown = repr(Credentials(token="t0ken", seed=b"s" * 32, jwt="j.w.t"))
    assert shown == str(Credentials(token="t0ken")) == "Credentials(********)"
    assert "t0ken" not in f"{Credentials(token='t0ken')!r}"


CREDS = f"""-----BEGIN NATS USER JWT-----
eyJ0eXAi.eyJqdGki.c2lnbmF0dXJl
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


def test_a_creds_file(tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    for text in (CREDS, CREDS.replace("\n", "\r\n")):
        file.write_bytes(text.encode())
        found = credentials("token", "", str(file))
        assert (found.jwt, found.seed, found.token) == ("eyJ0eXAi.eyJqdGki.c2lnbmF0dXJl", decode_seed(SEED, "x"), "")


@pytest.mark.parametrize(
    "text",
    ["", "x", CREDS.replace("USER NKEY SEED", "OTHER"), CREDS.replace("NATS USER JWT", "OTHER"), "\0\xff", CREDS[:200]],
)
def test_a_bad_creds_file_names_the_file_and_no_content(tmp_path: Path, text: str) -> None:
    file = tmp_path / "user.creds"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        credentials("", "", str(file))
    assert caught.value.faults == (
        f"creds: {file} holds no NATS USER JWT with its USER NKEY SEED; nsc generate creds writes such a file",
    )


def test_a_creds_file_with_a_bad_seed_shows_none_of_it(tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    file.write_text(CREDS.replace(SEED, SEED[:-2] + "AA"))
    with pytest.raises(ConfigError) as caught:
        credentials("", "", str(file))
    assert SEED[:10] not in str(caught.value) and "no valid NKey seed" in str(caught.value)


def test_a_creds_file_that_can_not_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigError, match="can't be read"):
            credentials("", "", str(path))


def test_a_creds_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    file.write_text(CREDS)
    found = credentials("", "", str(file))
    assert found.renewed() == found
    file.write_text(CREDS.replace("c2lnbmF0dXJl", "bmV3"))
    assert found.renewed().jwt == "eyJ0eXAi.eyJqdGki.bmV3"
    file.write_text("half of")
    assert found.renewed() == found, "what can't be read changes nothing"
    file.unlink()
    assert found.renewed() == found
    assert Credentials(token="t").renewed() == Credentials(token="t")


def test_what_wins(tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    file.write_text(CREDS)
    assert credentials("t", SEED, str(file)).jwt
    assert credentials("t", SEED, "") == Credentials(seed=decode_seed(SEED, "x"))
    assert credentials("t", "", "") == Credentials(token="t")


def test_without_pynacl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl.signing", None)
    with pytest.raises(LinkError, match="python3-nacl"):
        Credentials(seed=b"s" * 32).connect_fields({"nonce": "n"})
