"""`event-agentctl completion bash`: a completion script made from the command line's own description."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Mapping

from event_agent.config.event_names import FREESWITCH, LATER
from event_agent.ctl.connection import client
from event_agent.ctl.nodes import node_of, statuses
from event_agent.errors import AgentError

NAME = "event-agentctl"
OURS = frozenset(("agent.status", "dialplan.status"))
FILES = ("--creds", "--config", "-c")
CONNECTION = ("--url", "--token", "--creds", "--prefix", "--config", "-c", "--unit")
_PLAIN = re.compile(r"[\w.:@+-]+", re.ASCII)
TIMEOUT = 1.0  # seconds for what has to be asked

_SCRIPT = """\
# bash completion for {name}; put it into /usr/share/bash-completion/completions/{name}
# or say: eval "$({name} completion bash)"
_event_agentctl() {{
    local line=${{COMP_LINE:0:COMP_POINT}} current='' previous path='' words='' last i
    local -a typed=() where=(--timeout 1)
    COMPREPLY=()
    # Not COMP_WORDS: bash cuts these at : and =, and so every URL.
    read -ra typed <<< "$line"
    [[ $line == *[[:space:]] ]] && typed+=('')
    last=$((${{#typed[@]}} - 1))
    current=${{typed[last]}} previous=${{typed[last-1]}}
    [[ $current == --*=* ]] && previous=${{current%%=*}} current=${{current#*=}}
    for ((i = 1; i < last; i++)); do
        case ${{typed[i]}} in
            {connection}) where+=("${{typed[i]}}" "${{typed[i+1]}}"); ((i++)) ;;
            {connected}) where+=("${{typed[i]}}") ;;
            {valued}) ((i++)) ;;
            -*) ;;
            *) case "$path ${{typed[i]}}" in
{descend}
                esac ;;
        esac
    done
    case $previous in
        {files}) COMPREPLY=($(compgen -f -- "$current")); compopt -o filenames 2>/dev/null; return ;;
        {values}) return ;;
    esac
    case $path in
{words}
    esac
    if [[ $previous == --node ]]; then
        words=$({name} "${{where[@]}}" completion nodes 2>/dev/null)
    elif [[ $current != -* ]]; then
        case $path in
            ' api') words+=" $({name} "${{where[@]}}" completion verbs 2>/dev/null)" ;;
            ' events'|' watch') words+=" $({name} completion events 2>/dev/null)" ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _event_agentctl {name}
"""


def words(options: argparse.Namespace, environ: Mapping[str, str]) -> list[str]:
    """What the script asks for while somebody types: nodes, verbs, events. What can't be had is left out.

    The shell expands what it is given, and names come over the network: only plain ones are told to it.
    """
    return sorted(word for word in _words_of(options, environ) if _PLAIN.fullmatch(word))


def _words_of(options: argparse.Namespace, environ: Mapping[str, str]) -> set[str]:
    if options.shell == "events":
        return {*FREESWITCH, *LATER}
    try:
        with client(options, environ) as connected:
            timeout = options.timeout or TIMEOUT
            if options.shell == "nodes":
                return {node_of(reply) for reply in statuses(connected, None, timeout)}
            found = json.loads(str(connected.request("show", "api as json", timeout=timeout).get("data")))
            return {str(row["name"]) for row in found["rows"]} | OURS
    except (AgentError, ValueError, KeyError, TypeError):
        return set(OURS) if options.shell == "verbs" else set()


def bash(parser: argparse.ArgumentParser) -> str:
    """The script."""
    levels = _levels(parser)
    valued = sorted({option for each in levels.values() for option in _options(each, True)})
    return _SCRIPT.format(
        name=NAME,
        files="|".join(FILES),
        values="|".join(option for option in valued if option not in (*FILES, "--node")),
        valued="|".join(option for option in valued if option not in CONNECTION),
        connection="|".join(CONNECTION),
        connected="|".join(f"{option}=*" for option in CONNECTION if option.startswith("--")),
        descend="\n".join(f"{' ' * 20}{_quoted(path)}) path={_quoted(path)} ;;" for path in levels if path),
        words="\n".join(
            f"        {_quoted(path)}) words={shlex.quote(' '.join(_words(each)))} ;;" for path, each in levels.items()
        ),
    )


def _levels(parser: argparse.ArgumentParser, path: str = "") -> dict[str, argparse.ArgumentParser]:
    """This parser and those below it, by the words that lead there."""
    found = {path: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found |= _levels(below, f"{path} {name}".strip())
    return found


def _quoted(path: str) -> str:
    """As the script holds it, each word with a blank before it."""
    return shlex.quote(f" {path}" if path else "")


def _options(parser: argparse.ArgumentParser, with_value: bool) -> list[str]:
    return [
        option
        for action in parser._actions
        for option in action.option_strings
        if (action.nargs != 0) == with_value
    ]


def _words(parser: argparse.ArgumentParser) -> list[str]:
    """What may come next: words first, then options."""
    words = [str(choice) for action in parser._actions if not action.option_strings for choice in action.choices or ()]
    return words + sorted(_options(parser, True) + _options(parser, False))
