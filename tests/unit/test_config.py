"""A file becomes settings, or every fault at once with its line; the table in words."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from event_agent.config.event_names import FREESWITCH, LATER
from event_agent.config.load import MAX_FILE, MAX_VALUE, load
from event_agent.config.render import check_report, help_config, sample_file
from event_agent.config.table import MASK, PARAMS, Settings
from event_agent.errors import ConfigError
from tests.switchsim.names import EVENT_NAMES
from tests.unit.config_parts import Folder, define, param

FIXTURE = Path(__file__).parent.parent / "fixtures" / "mod_event_agent.conf.xml"
SHIPPED = Path(__file__).parent.parent.parent / "etc" / "event_agent.conf.xml"


# --- files that work ---


def test_defaults_without_a_file() -> None:
    loaded = load(None, {})
    assert loaded.settings == Settings()
    assert loaded.warnings == ()
    assert set(loaded.sources.values()) == {"default"}


def test_a_mod_event_agent_file_works_as_it_is() -> None:
    loaded = load(str(FIXTURE), {"nats_host": "broker", "nats_port": "4333", "agent_node_id": "fs-node-01"})
    assert loaded.settings == Settings(
        url=("nats://broker:4333",), node_id="fs-node-01", exclude=("DTMF", "HEARTBEAT"), log_level="debug"
    )
    assert loaded.warnings == ()


def test_the_names_that_its_readme_uses_work_as_well(folder: Folder) -> None:
    loaded = folder.raw(
        """<configuration name="mod_event_agent.conf"><settings>
        <param name="driver" value="nats"/> <param name="url" value="nats://host:4222"/>
        <param name="subject_prefix" value="freeswitch"/> <param name="node-id" value="fs-node-01"/>
        <param name="include-events" value="CHANNEL_CREATE,CHANNEL_DESTROY,CHANNEL_ANSWER"/>
        <param name="exclude-events" value="HEARTBEAT,PRESENCE_IN"/> <param name="api_denylist" value="cmd1,cmd2"/>
        </settings></configuration>"""
    )
    assert loaded.settings == Settings(
        url=("nats://host:4222",), node_id="fs-node-01",
        include=("CHANNEL_CREATE", "CHANNEL_DESTROY", "CHANNEL_ANSWER"),
        exclude=("HEARTBEAT", "PRESENCE_IN"), api_denylist=("cmd1", "cmd2"),
    )  # fmt: skip
    assert loaded.warnings == ()


def test_what_the_module_never_read_is_not_read_either(folder: Folder) -> None:
    names = ("tls", "nats-timeout", "nats-max-reconnect", "NATS_reconnect_wait", "jetstream")
    params = "".join(f'<param name="{name}" value="false"/>' for name in names)
    loaded = folder.raw(f'<configuration name="event_agent.conf"><settings>{params}</settings></configuration>')
    assert loaded.settings == Settings()
    assert [each.partition(" is not read")[0].rpartition(" ")[2] for each in loaded.warnings] == list(names)
    with pytest.raises(ConfigError, match="tls: write tls:// in url instead"):
        folder.raw('<configuration><settings><param name="tls" value="true"/></settings></configuration>')


def test_its_variables_need_no_value_where_the_environment_overrides_them() -> None:
    environ = {"MOD_EVENT_AGENT_URL": "nats://a", "MOD_EVENT_AGENT_NODE_ID": "n"}
    loaded = load(str(FIXTURE), environ)
    assert (loaded.settings.url, loaded.settings.node_id) == (("nats://a:4222",), "n")
    assert ["unknown variable" in warning for warning in loaded.warnings] == [True] * 3
    with pytest.raises(ConfigError):
        load(str(FIXTURE), {})


def test_the_sample_file_gives_the_defaults(folder: Folder) -> None:
    loaded = folder.raw(sample_file())
    assert loaded.settings == Settings(
        node_id=socket.gethostname(), exclude=("DTMF", "HEARTBEAT", "API"), dialplan_key="auto",
        audit="changes",
    )  # fmt: skip
    assert loaded.warnings == ()


def test_the_sample_file_names_every_param() -> None:
    for name in PARAMS:
        assert f'<param name="{name}" value="' in sample_file()


@pytest.mark.skipif(not SHIPPED.exists(), reason="runs against an installed package, without the checkout")
def test_the_shipped_file_is_made_from_the_table() -> None:
    hint = "run: python3 -m event_agent.config > etc/event_agent.conf.xml"
    assert SHIPPED.read_text(encoding="utf-8") == sample_file(), hint


@pytest.mark.parametrize(
    "form",
    [
        '<configuration name="event_agent.conf">{}</configuration>',
        "<configuration>{}</configuration>",
        '<include><configuration name="event_agent.conf">{}</configuration></include>',
        '<document type="freeswitch/xml"><section name="configuration"><configuration name="sofia.conf"><x/>'
        '</configuration><configuration name="event_agent.conf">{}</configuration></section></document>',
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<configuration name="event_agent.conf">{}</configuration>',
    ],
)
def test_forms_of_the_document(folder: Folder, form: str) -> None:
    assert folder.raw(form.format(f"<settings>{param('esl_port', '1')}</settings>")).settings.esl_port == 1


def test_names_in_any_spelling(folder: Folder) -> None:
    settings = folder.params(param("Node-Id", "a"), param("HOST", "b"), param("exclude-events", "C, D")).settings
    assert (settings.node_id, settings.url, settings.exclude) == ("a", ("nats://b:4222",), ("C", "D"))


def test_variables(folder: Folder) -> None:
    settings = folder.params(
        define("host=one"),
        define("url = $${host}.$${zone}"),
        param("url", "$${url}:$${port}"),
        '<X-NO-PRE-PROCESS cmd="include" data="vars.xml"/>',
        "<!-- $${ignored} -->",
        define("host=two"),
        param("node_id", "$${host}/$${zone}/${local}"),
        environ={"host": "never", "zone": "example", "port": "4444"},
    ).settings
    assert settings.url == ("nats://one.example:4444",)
    assert settings.node_id == "two/example/${local}"


def test_the_last_one_of_two_wins_with_a_warning(folder: Folder) -> None:
    loaded = folder.params(param("url", "a"), param("host", "b"))
    assert loaded.settings.url == ("nats://b:4222",)
    assert folder.short(loaded.warnings) == ["F:4: url is set twice, this replaces F:3"]


def test_secrets_in_the_file_are_deprecated(folder: Folder) -> None:
    environ = {"MOD_EVENT_AGENT_NKEY_SEED": "s3cret"}
    loaded = folder.params(param("token", "s3cret"), param("nkey", ""), environ=environ)
    assert loaded.settings.token == loaded.settings.nkey_seed == "s3cret"
    assert folder.short(loaded.warnings) == [
        "F:3: DEPRECATED: token in the file, use the environment (MOD_EVENT_AGENT_TOKEN)"
    ]


def test_a_mended_prefix_is_a_warning(folder: Folder) -> None:
    loaded = folder.params(param("subject_prefix", "my pbx."))
    assert loaded.settings.subject_prefix == "my_pbx"
    assert folder.short(loaded.warnings) == [
        "F:3: subject_prefix is 'my_pbx', not 'my pbx.': it takes at most 64 characters of a-z, A-Z, 0-9, '.', '_' "
        "and '-', with no empty part between dots"
    ]


# --- faults ---


def test_every_kind_of_fault_at_once_with_its_line(folder: Folder) -> None:
    assert folder.faults(
        param("esl_port", "no"),
        param("esl_prot", "1"),
        '<param\n  name="workers"\n  value="0"/>',
        '<param name="url"/>',
        '<param value="x"/>',
        "<parm/>",
        '<X-PRE-PROCESS cmd="include" data="s3cret"/>',
        define("s3cret"),
        define("a=$${gone}"),
        param("node_id", "$${a}$${lost}"),
        param("include", "$${oops"),
        param("tls_cert", "/nowhere"),
        param("tls_ca", "/"),
        environ={"MOD_EVENT_AGENT_ESL_PORT": "99999", "MOD_EVENT_AGENT_URL": "u:s3cret@h h"},
    ) == [
        "F:3: esl_port must be a whole number from 1 to 65535, not 'no'",
        "F:4: unknown param 'esl_prot', the closest known one is esl_port",
        "F:5: workers must be a whole number from 1 to 256, not '0'",
        'F:8: <param> must have name="..." and value="..."',
        'F:9: <param> must have name="..." and value="..."',
        "F:10: unknown element 'parm', only <param> in <settings> is allowed",
        'F:11: X-PRE-PROCESS must be cmd="set" data="name=value"',
        'F:12: X-PRE-PROCESS must be cmd="set" data="name=value"',
        "F:13: unknown variable $${gone}: set it above with X-PRE-PROCESS, or in the environment",
        "F:14: unknown variable $${lost}: set it above with X-PRE-PROCESS, or in the environment",
        "F:15: '$${' must be followed by a name and '}'",
        "environment MOD_EVENT_AGENT_ESL_PORT: esl_port must be a whole number from 1 to 65535, not '99999'",
        f"environment MOD_EVENT_AGENT_URL: url must be {PARAMS['url'].allowed}, not 'u:{MASK}@h h' "
        "(there is a blank in it; several are separated by commas)",
        "F:17: tls_ca: / is a folder, not a file",
        "F:16: tls_cert: /nowhere does not exist",
        "F:16: tls_cert needs tls_key as well",
    ]


def test_a_param_out_of_place(folder: Folder) -> None:
    assert folder.raw_faults(f"<configuration>\n{param('url', 'a')}</configuration>") == [
        "F:2: unknown element 'param', only <param> in <settings> is allowed"
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("<configuration>\n<settings>\n</configuration>", "F:2: <settings> is not closed; noticed at line 3"),
        ("<configuration>\n<settings>\n</setings></configuration>",
         "F:3: </setings> ends no element; <settings> of line 2 is open"),
        ("", "F: the file is empty"),
        (b"\n \n", "F: the file is empty"),
        ("<!-- -->\n", "F:2: not well-formed XML: no element found"),
        (b"\n\xff",
         "F:2: not well-formed XML: not well-formed (invalid token): byte ff is not UTF-8; save the file as UTF-8"),
        ("<a/>", 'F:1: <configuration name="event_agent.conf"> expected'),
        ('\n<configuration name="sofia.conf"/>', 'F:2: <configuration name="event_agent.conf"> expected'),
        ("<x><configuration/></x>", 'F:1: <configuration name="event_agent.conf"> expected'),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "F:1: unknown encoding, UTF-8 is best"),
        ('<?xml version="1.0" encoding="utf-7"?><a/>', "F:1: unknown encoding, UTF-8 is best"),
        ('\n<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><x>&c;</x>', "F:2: a DOCTYPE is not allowed"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', "F:1: a DOCTYPE is not allowed"),
        ("<configuration>\n&xxe;</configuration>", "F:2: not well-formed XML: undefined entity"),
        (b" " * (MAX_FILE + 1), f"F: too large, at most {MAX_FILE} bytes are allowed"),
    ],
)
def test_files_that_will_not_do(folder: Folder, content: str | bytes, fault: str) -> None:
    assert folder.raw_faults(content) == [fault]


@pytest.mark.parametrize(
    ("slip", "fault"),
    [
        ('<param name="token" value="s3cr3t">', "F:3: <param> is not closed; noticed at line 21"),
        ('<param name="token" value="s3cr3t"', "F:3: <param> is not closed; noticed at line 4"),
        ('<param name="token" value="s3cr3t/>', "F:3: <param> is not closed; noticed at line 4"),
        ('<param name="token" value="s3>cr3t"', "F:3: <param> is not closed; noticed at line 4"),
        ("<param name='token' value=\"s3cr3t'/>", "F:3: <param> is not closed; noticed at line 4"),
        ("<!-- token", "F:3: <!-- is not closed; noticed at line 20"),
        ('<param name="token" value="s3&cr3t"/>',
         "F:3: not well-formed XML: not well-formed (invalid token): '&' is written &amp; here"),
        ('<param name="token" value="s3cr3t&"/>',
         "F:3: not well-formed XML: not well-formed (invalid token): '&' is written &amp; here"),
        ('<param name="token" value="s3<cr3t"/>',
         "F:3: not well-formed XML: not well-formed (invalid token): '<' is written &lt; in a value"),
        ('<param name="token" value=s3cr3t/>',
         "F:3: not well-formed XML: not well-formed (invalid token): a value stands in quotes"),
        ("<!-- token -- s3cr3t -->",
         "F:3: not well-formed XML: not well-formed (invalid token): '--' can't stand in a comment"),
    ],
)  # fmt: skip
def test_a_slip_is_named_with_the_line_that_has_it(folder: Folder, slip: str, fault: str) -> None:
    rest = [param("workers", "1")] * 16 + ["<!-- the end -->"]
    assert folder.faults(slip, *rest) == [fault]


def test_all_that_is_not_closed_is_named(folder: Folder) -> None:
    lines = ['<param name="url" value="a">'] * 2
    assert folder.faults(*lines) == [
        "F:3: <param> is not closed; noticed at line 5", "F:4: <param> is not closed; noticed at line 5",
    ]  # fmt: skip
    assert len(folder.faults(*lines * 50)) == 10
    assert folder.raw_faults("<configuration>\n<settings>\n<param name='a'") == [
        "F:3: <param> is not closed; noticed at line 3",
    ]


def test_a_deep_document_is_no_harm(folder: Folder) -> None:
    depth = 140_000
    assert folder.raw_faults("<a>" * depth + "</a>" * depth)[0].endswith("expected")


def test_variables_that_double_are_stopped(folder: Folder) -> None:
    lines = [define("v0=" + "x" * 10)] + [define(f"v{i}=$${{v{i - 1}}}$${{v{i - 1}}}") for i in range(1, 40)]
    assert f"F:13: value too long, at most {MAX_VALUE} characters are allowed" in folder.faults(*lines)


def test_a_file_that_is_not_there_does_not_hide_other_faults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"{tmp_path}/none.xml", {"MOD_EVENT_AGENT_WORKERS": "x"})
    assert caught.value.faults == (
        f"{tmp_path}/none.xml: there is no such file; name another with -c, "
        "or none if all settings are in the environment",
        "environment MOD_EVENT_AGENT_WORKERS: workers must be a whole number from 1 to 256, not 'x'",
    )
    with pytest.raises(ConfigError, match="Is a directory"):
        load(str(tmp_path), {})


@pytest.mark.parametrize("one", ["tls_cert", "tls_key"])
def test_certificate_and_key_go_together(folder: Folder, one: str) -> None:
    other = {"tls_cert": "tls_key", "tls_key": "tls_cert"}[one]
    assert folder.faults(param(one, str(FIXTURE))) == [f"F:3: {one} needs {other} as well"]
    folder.params(param(one, str(FIXTURE)), environ={f"MOD_EVENT_AGENT_{other.upper()}": str(FIXTURE)})


def test_only_the_file_in_force_has_to_be_there(folder: Folder) -> None:
    environ = {"MOD_EVENT_AGENT_CREDS": str(FIXTURE)}
    assert folder.params(param("creds", "/nowhere"), environ=environ).settings.creds == str(FIXTURE)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.text(st.sampled_from("<>/=\"'!& \n[]?-a$&#{};"), max_size=300).map(str.encode))
def test_any_bytes_give_settings_or_faults(folder: Folder, data: bytes) -> None:
    try:
        folder.raw(data)
    except ConfigError as error:
        assert error.faults and all(fault.startswith(folder.path) for fault in error.faults)


# --- the table in words ---


def test_check_report(folder: Folder) -> None:
    lines = [param("url", "nats://u:s3cret@h,tls://s3cret@i"), param("token", "s3cret"), param("dialplan_listen", "")]
    environ = {"MOD_EVENT_AGENT_ESL_PASSWORD": "s3cret", "MOD_EVENT_AGENT_INCLUDE": "A, B"}
    loaded = folder.params(*lines, environ=environ)
    report = check_report(loaded).replace(folder.path, "F").splitlines()
    assert len(report) == len(PARAMS)
    for line in (
        f"url = nats://u:{MASK}@h:4222,tls://{MASK}@i:4222   (F:3)",
        f"token = {MASK}   (F:4)",
        "http_listen =    (F:5)",
        f"esl_password = {MASK}   (environment MOD_EVENT_AGENT_ESL_PASSWORD)",
        "include = A,B   (environment MOD_EVENT_AGENT_INCLUDE)",
        "tls_verify = true   (default)",
        "reconnect_wait = 1   (default)",
    ):
        assert line in report
    assert "s3cret" not in "".join(report) + repr(loaded) + "".join(loaded.warnings)


def test_no_fault_holds_a_secret(folder: Folder) -> None:
    secret = "s3cret&#10;"
    faults = folder.faults(
        *(param(name, secret) for name, entry in PARAMS.items() if entry.secret),
        param("url", f"nats://u:{secret}@h"),
        param("url", "nats://u:s3cret@h:99999"),
    )
    assert len(faults) == 5
    assert "s3cret" not in "".join(faults)


def test_event_names_that_do_not_exist_are_named(folder: Folder) -> None:
    loaded = folder.params(
        param("include", "CHANNEL_ANSWERED,channel_answer,sofia::registerr,sofia:register"),
        param("exclude", "HEARTBEET,AGENT_CONNECTED,ALL"),
    )
    assert folder.short(loaded.warnings) == [
        "F:3: include: no event is called 'CHANNEL_ANSWERED', the closest known one is CHANNEL_ANSWER",
        "F:3: include: no event is called 'sofia:register', the closest known one is sofia::register",
        "F:4: exclude: no event is called 'HEARTBEET', the closest known one is HEARTBEAT",
    ]


def test_the_names_are_those_of_freeswitch() -> None:
    """A functional test asks FreeSWITCH for each of them."""
    assert (*FREESWITCH, *LATER) == EVENT_NAMES


def test_help_config() -> None:
    text = help_config()
    assert "nkey_seed, nkey   (MOD_EVENT_AGENT_NKEY_SEED)\n" in text
    assert "    Default: 8021\n    Allowed: a whole number from 1 to 65535\n" in text
    assert all(entry.help in text for entry in PARAMS.values())
    assert text.count("A reload (SIGHUP)") == sum(entry.reload for entry in PARAMS.values()) == 13


# --- this machine's own variables ---


def test_the_names_that_freeswitch_knows_are_known(folder: Folder) -> None:
    lines = (param("node_id", "fs-$${hostname}"), param("esl_host", "$${local_ip_v4}"))
    loaded = folder.params(*lines)
    assert loaded.settings.node_id == f"fs-{socket.gethostname()}"
    assert ipaddress.ip_address(loaded.settings.esl_host).version == 4
    assert ":" in folder.params(param("esl_host", "$${local_ip_v6}")).settings.esl_host
    # The environment wins over them, the file over both.
    assert folder.params(*lines, environ={"hostname": "b"}).settings.node_id == "fs-b"
    assert folder.params(define("hostname=c"), *lines, environ={"hostname": "b"}).settings.node_id == "fs-c"
    assert folder.faults(param("node_id", "$${switchname}"))[0].startswith("F:3: unknown variable $${switchname}")


def test_an_empty_variable_takes_the_machines_name_back(folder: Folder) -> None:
    environ = {"MOD_EVENT_AGENT_NODE_ID": ""}
    assert folder.params(param("node_id", "$${hostname}"), environ=environ).settings.node_id == ""
    assert folder.params(param("node_id", "chosen"), environ=environ).settings.node_id == "chosen"
    assert folder.params(param("node_id", "")).settings.node_id == ""


def test_without_a_network_there_is_loopback(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", unreachable)
    assert folder.params(param("esl_host", "$${local_ip_v4}")).settings.esl_host == "127.0.0.1"
