"""`event-agentctl completion bash`: a completion script made from the command line's own description."""

from __future__ import annotations

import argparse
import shlex

NAME = "event-agentctl"
FILES = ("--creds", "--config", "-c")

_SCRIPT = """\
# bash completion for {name}; put it into /usr/share/bash-completion/completions/{name}
# or say: eval "$({name} completion bash)"
_event_agentctl() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} path='' words='' i
    COMPREPLY=()
    case $previous in
        {files}) COMPREPLY=($(compgen -f -- "$current")); compopt -o filenames 2>/dev/null; return ;;
        {values}) return ;;
    esac
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            {valued}) ((i++)) ;;
            -*) ;;
            *) case "$path ${{COMP_WORDS[i]}}" in
{descend}
                esac ;;
        esac
    done
    case $path in
{words}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _event_agentctl {name}
"""


def bash(parser: argparse.ArgumentParser) -> str:
    """The script."""
    levels = _levels(parser)
    valued = sorted({option for each in levels.values() for option in _options(each, True)})
    return _SCRIPT.format(
        name=NAME,
        files="|".join(FILES),
        values="|".join(option for option in valued if option not in FILES),
        valued="|".join(valued),
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
