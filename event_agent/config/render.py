"""What the table of settings is shown as: `--check`, `--help-config`, the shipped file. After a change of the table:

    python3 -m event_agent.config > etc/event_agent.conf.xml
"""

from __future__ import annotations

from event_agent.config.load import ENVIRONMENT_PREFIX, Loaded
from event_agent.config.table import PARAMS, TEXT

RELOADED = "    A reload (SIGHUP) takes it over without a restart.\n"


def check_report(loaded: Loaded) -> str:
    """The settings in force, one a line with its source; secrets are masked."""
    return "".join(
        f"{name} = {param.show(getattr(loaded.settings, name))}   ({loaded.sources[name]})\n"
        for name, param in PARAMS.items()
    )


def help_config() -> str:
    """Every param with its aliases, environment variable, default and range."""
    parts = []
    for name, param in PARAMS.items():
        names = ", ".join((name, *param.aliases))
        parts.append(
            f"{names}   ({ENVIRONMENT_PREFIX}{name.upper()})\n"
            f"    {param.help}\n"
            f"    Default: {param.write(param.default) or '(empty)'}\n"
            f"    Allowed: {param.allowed}\n"
            f"{RELOADED if param.reload else ''}"
        )
    return "\n".join(parts)


_HEAD = """\
<!--
  event-agent's configuration: every param with its default.

  The environment (MOD_EVENT_AGENT_URL, MOD_EVENT_AGENT_TOKEN, ...) wins over this file and is the place for secrets,
  as are systemd's credentials; MOD_EVENT_AGENT_TOKEN_FILE and so on name files that hold them. $${name} is replaced
  from X-PRE-PROCESS lines further up in this file, then from the environment; $${hostname}, $${local_ip_v4} and
  $${local_ip_v6} are known as in FreeSWITCH's own files. Durations are in seconds, fractions allowed, unless the name
  says ms. The program's check option shows what is in force.
-->
<configuration name="event_agent.conf">

  <!-- <X-PRE-PROCESS cmd="set" data="nats_host=127.0.0.1"/> -->

  <settings>
"""


def sample_file() -> str:
    """The shipped configuration file, etc/event_agent.conf.xml."""
    lines = [_HEAD]
    for name, param in PARAMS.items():
        if param.section:
            lines.append(f"    <!-- ===== {param.section} ===== -->\n")
        ranged = param.kind.choices or (param.low is not None and param.kind is not TEXT)
        lines.append(f"    <!-- {param.help}{f' Takes {param.allowed}.' if ranged else ''} -->")
        line = '<param name="{}" value="{}"/>'
        value = param.shipped or param.write(param.default)
        if value or not param.example:
            lines.append("    " + line.format(name, value))
        if param.example:
            lines.append(f"    <!-- {line.format(name, param.example)} -->")
        lines.append("")
    return "\n".join((*lines, "  </settings>", "</configuration>", ""))

