"""Makes the manual pages: docs/man/* with what the sources know put into it.

    python3 tools/manpages.py FOLDER [SECONDS]

Lines that begin with @ in the pages stand for: the options of the two programs, the commands of event-agentctl, the
settings. SECONDS since the epoch is the date they bear, else today's (debian/rules gives the changelog's).
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from event_agent import __version__  # noqa: E402
from event_agent.__main__ import parser as agent_parser  # noqa: E402
from event_agent.config.load import ENVIRONMENT_PREFIX  # noqa: E402
from event_agent.config.table import PARAMS  # noqa: E402
from event_agent.ctl import program as ctl  # noqa: E402


def roff(text: str) -> str:
    """`text` as it must be written to be read as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return re.sub(r"^\.", r"\\&.", text, flags=re.MULTILINE)


def bold(text: str) -> str:
    return f"\\fB{roff(text)}\\fR"


def italic(text: str) -> str:
    return f"\\fI{roff(text)}\\fR"


def value(action: argparse.Action) -> str:
    """What stands for an argument's value."""
    if isinstance(action.metavar, str):
        name = action.metavar
    elif action.choices:
        return "|".join(bold(each) for each in action.choices)
    else:
        name = action.dest.upper()
    return italic(name)


def entry(action: argparse.Action) -> str:
    """One option or argument as a paragraph."""
    names = [bold(each) for each in action.option_strings]
    takes = action.nargs != 0
    head = ", ".join(f"{name} {value(action)}" if takes else name for name in names) if names else value(action)
    return f".TP\n{head}\n{roff(sentence(action.help or ''))}"


def sentence(text: str) -> str:
    if re.match(r"\w+,", text):  # a list of values: they are to be typed as they stand
        return text + "."
    return text and text[0].upper() + text[1:] + "."


def options(parser: argparse.ArgumentParser, leave_out: frozenset[str] = frozenset()) -> str:
    """Options, then arguments, of one parser."""
    actions = [each for each in parser._actions if each.dest not in leave_out and each.help != argparse.SUPPRESS]
    # What has no help has said all in the synopsis.
    actions = [each for each in actions if each.help and not isinstance(each, argparse._SubParsersAction)]
    return "\n".join(entry(each) for each in sorted(actions, key=lambda each: not each.option_strings))


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """(parser, help) of each command."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for name, each in action.choices.items():
                yield each, helps[name]


def synopsis(parser: argparse.ArgumentParser, leave_out: frozenset[str] = frozenset()) -> str:
    """A command line, without what all commands take."""
    parts = [bold(parser.prog)]
    for each in sorted(parser._actions, key=lambda each: not each.option_strings):
        if each.dest in leave_out or isinstance(each, argparse._SubParsersAction):
            continue
        text = value(each)
        if each.option_strings:
            name = bold(each.option_strings[0])
            parts.append(f"[{name}]" if each.nargs == 0 else f"[{name} {text}]")
        else:
            parts.append(f"[{text}]" if each.nargs == "?" else f"[{text} ...]" if each.nargs == "..." else text)
    return " ".join(parts)


def commands(parser: argparse.ArgumentParser) -> str:
    """Every command, and theirs, with what they take beyond the options of all."""
    common = frozenset(each.dest for each in parser._actions)
    parts: list[str] = []

    def add(of: argparse.ArgumentParser) -> None:
        for each, help in subcommands(of):
            name = each.prog.partition(" ")[2]
            parts.append(f".SS {roff(name)}")
            text = "\n.PP\n".join(map(roff, ctl.CHECK.split("\n\n"))) if name == "check" else roff(sentence(help))
            if any(subcommands(each)):
                parts.extend((text, examples(name)))
                add(each)
            else:
                parts.extend((synopsis(each, common), ".PP", text, options(each, common), examples(name)))

    add(parser)
    return "\n".join(part for part in parts if part)


def examples(name: str) -> str:
    """Those of one command."""
    lines = ctl.EXAMPLES.get(name, "").splitlines()
    shown = [f"    {roff(line)}" for line in lines]
    return "\n".join([".PP", "Examples:", ".PP", ".nf", *shown, ".fi"]) if lines else ""


def settings() -> str:
    """Every setting."""
    parts: list[str] = []
    for name, param in PARAMS.items():
        if param.section:
            parts.append(f".SS {roff(param.section)}")
        parts.append(f".TP\n{', '.join(bold(each) for each in (name, *param.aliases))}\n{roff(param.help)}")
        parts.append(f".br\nDefault: {roff(param.write(param.default) or '(empty)')}")
        if param.shipped:
            parts.append(f".br\nIn the shipped file: {roff(param.shipped)}")
        parts.append(f".br\nTakes {roff(param.allowed)}.")
        if param.example:
            parts.append(f".br\nFor example: {roff(param.example)}")
        parts.append(f".br\nEnvironment: {bold(ENVIRONMENT_PREFIX + name.upper())}")
    return "\n".join(parts)


def page(text: str, date: str) -> str:
    """A page with everything put in."""
    agent, tool = agent_parser(), ctl.parser()
    known = {
        "@agent-synopsis": lambda: synopsis(agent, frozenset(("help",))),
        "@agent-options": lambda: options(agent),
        "@ctl-options": lambda: options(tool),
        "@ctl-commands": lambda: commands(tool),
        "@ctl-names": lambda: ", ".join(bold(each.prog.partition(" ")[2]) for each, _ in subcommands(tool)) + ".",
        "@settings": settings,
    }
    lines = [known[line]() if line.startswith("@") else line for line in text.splitlines()]
    return "\n".join(lines).replace("%version%", __version__).replace("%date%", date) + "\n"


def main() -> int:
    folder = Path(sys.argv[1])
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else time.time()
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted((ROOT / "docs/man").iterdir()):
        (folder / source.name).write_text(page(source.read_text(encoding="utf-8"), date), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
