"""The table: reading, writing and masking of each kind of value."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.config.table import MASK, MAX_PREFIX, PARAMS, PREFIX, Settings, closest_name, find, masked_url

SPEC_DEFAULTS: dict[str, Any] = {
    "driver": "nats",
    "url": ("nats://127.0.0.1:4222",),
    "subject_prefix": "freeswitch",
    "node_id": "",
    "token": "",
    "nkey_seed": "",
    "creds": "",
    "publish_all_events": True,
    "include": (),
    "exclude": (),
    "api_denylist": (),
    "api_allowlist": (),
    "app_denylist": (),
    "esl_host": "127.0.0.1",
    "esl_port": 8021,
    "esl_password": "ClueCon",
    "max_reconnect": -1,
    "reconnect_wait": 1,
    "reconnect_buf_size": 8388608,
    "ping_interval": 30, "ping_timeout": 5, "ignore_discovered": False,
    "discovery": True,
    "tls_ca": "",
    "tls_cert": "",
    "tls_key": "",
    "tls_verify": True,
    "events_delivery": "at_most_once",
    "stream": "",
    "event_ack_timeout": 5,
    "event_max_pending": 4000,
    "event_buffer_size": 4194304,
    "spool_dir": "",
    "spool_max_bytes": 268435456,
    "spool_mode": "overflow",
    "spool_sync": "interval",
    "lanes": "all", "call_lanes": True, "cdr": False, "cdr_variables": (),
    "event_fields": (), "event_variables": (),
    "command_timeout": 30,
    "workers": 8,
    "lanes_read": 0,
    "command_awake_us": 500,
    "event_wake_ms": 2,
    "event_wake_multicast": None,
    "http_listen": ("127.0.0.1", 8092),
    "dialplan_key": "",
    "heartbeat": 20, "state_dir": "/var/lib/event-agent",
    "log_level": "info", "log_format": "text", "audit": "all", "slow_log": 0.0,
}


def read(name: str, text: str) -> Any:
    return PARAMS[name].read(text)


def refusal(name: str, text: str) -> str:
    with pytest.raises(ValueError) as caught:
        read(name, text)
    return str(caught.value)


def test_defaults() -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in PARAMS} == SPEC_DEFAULTS


@pytest.mark.parametrize("name", PARAMS)
def test_a_default_is_an_allowed_value_and_has_help(name: str) -> None:
    param = PARAMS[name]
    assert param.read(param.write(param.default)) == param.default
    assert param.help.endswith(".")
    assert "--" not in param.help  # it becomes an XML comment
    assert "{" not in param.allowed and "None" not in param.allowed


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("url", "url"),
        ("HOST", "url"),
        ("nkey", "nkey_seed"),
        ("Include-Events", "include"),
        ("exclude_events", "exclude"),
        ("Node-ID", "node_id"),
        ("API-denylist", "api_denylist"),
    ],
)
def test_names_and_aliases(spelling: str, name: str) -> None:
    param = find(spelling)
    assert param is not None and param.name == name


def test_unknown_names() -> None:
    assert find("esl_prot") is None
    assert closest_name("esl_prot") == "esl_port"
    assert closest_name("Subject-Prefx") == "subject_prefix"
    assert closest_name("?") in PARAMS


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("nats://a:1", ["nats://a:1"]),
        ("broker", ["nats://broker:4222"]),
        ("a:5000 , tls://b", ["nats://a:5000", "tls://b:4222"]),
        ("a,,b,", ["nats://a:4222", "nats://b:4222"]),
        ("TLS://[::1]", ["tls://[::1]:4222"]),
        ("[2001:db8::1]:4333", ["nats://[2001:db8::1]:4333"]),
        ("nats://u:p%40%2f@h/", ["nats://u:p%40%2f@h:4222"]),
        ("t0ken@h", ["nats://t0ken@h:4222"]),
        ("nats://u:@h", ["nats://u:@h:4222"]),
        (",".join("h" * 16), ["nats://h:4222"] * 16),
    ],
)
def test_urls(text: str, urls: list[str]) -> None:
    assert read("url", text) == tuple(urls)


@pytest.mark.parametrize(
    "text",
    ["", " , ", "http://h", "nats://", "nats://h:0", "nats://h:65536", "nats://h:p", "::1", "[::g]", "[1.2.3.4]", "h/x",
     "nats://@h", "nats://:p@h", "nats://u:p%zz@h", "nats://h?x", "a b", "a\nb", "nats://u:p@", ",".join("h" * 17)],
)
def test_bad_urls(text: str) -> None:
    assert refusal("url", text).startswith("url must be 1 to 16 URLs")


@pytest.mark.parametrize(
    ("text", "slip"),
    [
        ("nats:/h:4222", "two slashes follow the colon, nats://"), ("TLS:h:a", "two slashes follow the colon, nats://"),
        ("http://h", "the scheme is neither nats:// nor tls://"), ("ws://h:1", "the scheme is neither nats:// nor tls://"),
        ("nats://h:1 nats://g:1", "there is a blank in it; several are separated by commas"),
        ("u:p@h:1 g:1", "there is a blank in it; several are separated by commas"),
        ("nats://h:65536", "there is no such port"), ("h:0", "there is no such port"),
        ("u:p@h:422222", "there is no such port"), ("nats://h:0/", "there is no such port"),
        ("nats://h:4222/x", "nothing follows the port"), ("h//", "nothing follows the port"),
    ],
)  # fmt: skip
def test_slips_in_a_url(text: str, slip: str) -> None:
    assert refusal("url", text).endswith(f" ({slip})")


def test_a_url_without_a_known_slip() -> None:
    assert refusal("url", "nats://u:p%zz@h").endswith(f", not 'nats://u:{MASK}@h'")


URL_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="@"), max_size=20)


SCHEMES = st.sampled_from(["nats://", "tls://", "http://", ""])


@given(SCHEMES, URL_TEXT, st.sampled_from(["h", "h:1", "[::1]:4222", "h:x"]))
def test_a_password_never_gets_through_the_mask(scheme: str, noise: str, host: str) -> None:
    secret = "Tr0ub4dor" + noise
    assert "Tr0ub4dor" not in masked_url(f"{scheme}user:{secret}@{host}")
    assert "Tr0ub4dor" not in masked_url(f"{scheme}{secret}@{host}") or ":" in noise  # then it is a user name
    assert "Tr0ub4dor" not in refusal("url", f"{scheme}user:{secret}@bad host")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("nats://h:4222", "nats://h:4222"),
        ("nats://user:pw@h:4222", f"nats://user:{MASK}@h:4222"),
        ("nats://user:p@w@h:4222", f"nats://user:{MASK}@h:4222"),
        ("nats://user:p/w://x@[::1]:4222", f"nats://user:{MASK}@[::1]:4222"),
        ("tls://token@h", f"tls://{MASK}@h"),
        ("user:pw@h", f"user:{MASK}@h"),
        ("u:p://x@h", f"u:{MASK}@h"),
        ("nats://user:half,", f"nats://user:{MASK}"),
        ("", ""),
    ],
)
def test_masked_url(url: str, masked: str) -> None:
    assert masked_url(url) == masked


def test_both_halves_of_a_password_with_a_comma_are_hidden() -> None:
    for text in ("nats://user:first,second@h", "nats://user:1,second@h", "nats://user:1,second :x@h"):
        message = refusal("url", text)
        assert "%2C" in message and "first" not in message and "second" not in message
    assert "first" not in refusal("url", "user:first,second@h")


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("freeswitch", "freeswitch"),
        (" pbx.eu-1_a ", "pbx.eu-1_a"),
        ("a b\r\nc*>", "a_b__c__"),
        ("é/$", "___"),
        (".a..b...c.", "a.b.c"),
        ("x" * 70, "x" * 64),
        ("x" * 63 + ".y", "x" * 63),
    ],
)
def test_prefix_is_mended(text: str, prefix: str) -> None:
    assert read("subject_prefix", text) == prefix


@pytest.mark.parametrize("text", ["", " ", ".", "..."])
def test_prefix_of_nothing(text: str) -> None:
    assert refusal("subject_prefix", text).startswith("subject_prefix must be at most 64 characters")


@given(st.text())
def test_prefix_makes_plain_subjects_and_is_stable(text: str) -> None:
    try:
        prefix = PREFIX.read(text)
    except ValueError:
        assert not text.strip(".")
        return
    assert 1 <= len(prefix) <= MAX_PREFIX
    assert all(prefix.split("."))
    assert PREFIX.read(prefix) == prefix


@pytest.mark.parametrize("text", ["true", "YES", "on", "1", "enabled"])
def test_true(text: str) -> None:
    assert read("tls_verify", text) is True


@pytest.mark.parametrize("text", ["false", "No", "OFF", "0", "disabled"])
def test_false(text: str) -> None:
    assert read("tls_verify", text) is False


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tls_verify", "maybe", "tls_verify must be true or false, not 'maybe'"),
        ("esl_port", "0", "esl_port must be a whole number from 1 to 65535, not '0'"),
        ("esl_port", "65536", "esl_port must be a whole number from 1 to 65535, not '65536'"),
        ("esl_port", "80.5", "esl_port must be a whole number from 1 to 65535, not '80.5'"),
        ("esl_port", "", "esl_port must be a whole number from 1 to 65535, not ''"),
        ("workers", "1_0", "workers must be a whole number from 1 to 256, not '1_0'"),
        ("workers", "\N{ARABIC-INDIC DIGIT ONE}", "workers must be a whole number from 1 to 256, not '\u0661'"),
        ("ping_interval", "nan", "ping_interval must be a number of seconds from 0.1 to 3600, not 'nan'"),
        ("ping_interval", "30s", "ping_interval must be a number of seconds from 0.1 to 3600, not '30s'"),
        ("ping_interval", "0", "ping_interval must be a number of seconds from 0.1 to 3600, not '0'"),
        ("max_reconnect", "-2", "max_reconnect must be a whole number from -1 to 1000000000, not '-2'"),
        ("driver", "nat", "driver must be nats, not 'nat' (the closest is nats)"),
        ("log_level", "wanring",
         "log_level must be debug, info, warning, error or critical, not 'wanring' (the closest is warning)"),
        ("include", "A B", "include must be names separated by commas, without blanks inside, not 'A B'"),
        ("esl_host", "a b", "esl_host must be a host name or an address, not 'a b'"),
        ("esl_host", "[::1", "esl_host must be a host name or an address, not '[::1'"),
        ("esl_host", "fe80:::1", "esl_host must be a host name or an address, not 'fe80:::1'"),
        ("esl_password", "", "esl_password must be text of 1 to 255 characters without control characters"),
    ],
)
def test_refusals(name: str, text: str, message: str) -> None:
    assert refusal(name, text) == message


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("esl_port", " 8022 ", 8022),
        ("max_reconnect", "-1", -1),
        ("reconnect_wait", "0.25", 0.25),
        ("reconnect_wait", ".5", 0.5),
        ("reconnect_wait", "1234.5678901", 1234.5678901),
        ("event_wake_ms", "0", 0.0),
        ("include", " CHANNEL_CREATE, sofia::register ,,", ("CHANNEL_CREATE", "sofia::register")),
        ("include", "", ()),
        ("esl_host", "[::1]", "::1"),
        ("esl_host", "::1", "::1"),
        ("esl_host", "pbx_1.example", "pbx_1.example"),
        ("http_listen", "", None),
        ("dialplan_key", "", ""),
        ("dialplan_key", "off", ""),
        ("dialplan_key", "AUTO", "auto"),
        ("dialplan_key", "Off-hook", "Off-hook"),
        ("http_listen", "off", None),
        ("http_listen", "[::1]:8092", ("::1", 8092)),
        ("http_listen", "localhost:80", ("localhost", 80)),
        ("node_id", " FS Node-01 é ", " FS Node-01 é "),
        ("esl_password", " p ", " p "),
        ("log_level", "DEBUG", "debug"),
        ("log_level", "Notice", "info"),
        ("log_level", "WARN", "warning"),
        ("log_level", "err", "error"),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    assert read(name, text) == value


@pytest.mark.parametrize("text", [":80", "h", "h:0", "h:65536", "::1:80", "h:80:80", "[::x]:1", "h:-1"])
def test_bad_listen_addresses(text: str) -> None:
    assert refusal("http_listen", text).startswith("http_listen must be host:port")


@pytest.mark.parametrize("name", sorted(set(PARAMS) - {"subject_prefix"}))
@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\x1b", "\x85", "\u2028", "\udc80"])
def test_control_characters_and_surrogates_are_refused_everywhere(name: str, bad: str) -> None:
    message = refusal(name, f"a{bad}b")
    assert message.isprintable()
    message.encode()


@given(st.sampled_from(sorted(PARAMS)), st.text())
def test_what_is_read_can_be_written_and_read_again(name: str, text: str) -> None:
    param = PARAMS[name]
    try:
        value = param.read(text)
    except ValueError as fault:
        assert str(fault).startswith(f"{name} must be ") and "\n" not in str(fault)
        return
    assert param.read(param.write(value)) == value


def test_secrets_are_masked_in_repr_and_faults() -> None:
    settings = Settings(token="s3cret", nkey_seed="s3cret", esl_password="s3cret", url=("nats://u:s3cret@h:4222",))
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "s3cret" not in text
        assert text.count(MASK) == 4
    for name in ("token", "nkey_seed", "esl_password"):
        assert "s3cret" not in refusal(name, "s3cret\n")
        assert PARAMS[name].show("") == ""


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().esl_port = 1  # type: ignore[misc]


def test_a_good_start_imports_nothing_heavy() -> None:
    heavy = {"difflib", "ssl", "asyncio", "urllib.request", "xml.sax", "logging", "pathlib", "ipaddress"}
    code = f"import sys; had = set(sys.modules); import event_agent.config; print({heavy!r} & set(sys.modules) - had)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "set()"
