"""What the declarations of the commands' fields say, written where people and tools read it.

    .venv/bin/python tools/fields.py            writes docs/schemas/request.json, and what stands between markers in
                                                docs/API.md and docs/asyncapi.yaml
    .venv/bin/python tools/fields.py --check    only says what differs; exit code 1 when something does
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from textwrap import indent
from typing import Any

from event_agent.commands.catalogue import COMMANDS
from event_agent.commands.console import usage
from event_agent.protocol.requests import ARGS, COMMON, MAX_REQUEST
from event_agent.protocol.validation import MAX_SUBJECT_BYTES, WHITE, Declaration, Field, Form, Schema

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 120  # of a line
DOCS = ROOT / "docs"


def definition(command: Declaration) -> str:
    """A command's name in the schemas: that of dialplan.enable is dialplanEnable."""
    first, *rest = re.split(r"[._]", command.name or "api.verb")
    return first + "".join(map(str.capitalize, rest))


def title(command: Declaration) -> str:
    return command.name or "any FreeSWITCH API verb"


# -- docs/schemas/request.json


def request_schema(commands: tuple[Declaration, ...]) -> str:
    """The text of request.json."""
    forms: dict[str, Schema] = {}
    messages = {definition(each): _message(each, commands, forms) for each in commands}
    common = {
        "title": "What all requests have in common",
        "description": f"At most {MAX_REQUEST:,} bytes of JSON in UTF-8. Fields that a command does not know are "
        "ignored, and named in the reply's `warnings`.",
        "type": "object",
        # `args` is another thing for each command.
        **_object(tuple(each for each in COMMON if each is not ARGS), forms),
    }
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A request to event-agent",
        "description": "One of the commands. What a schema can't say is in the descriptions and in docs/API.md. "
        "Written by tools/fields.py.",
        "oneOf": [{"$ref": f"#/definitions/{name}"} for name in messages],
        "definitions": {"common": common, **forms, **messages},
    }
    return pretty(schema) + "\n"


def _message(command: Declaration, commands: tuple[Declaration, ...], forms: dict[str, Schema]) -> Schema:
    own = _object(command.fields, forms)
    if command.console:
        _add_console(command, own, forms)
    if command.together:
        own["dependencies"] = {each.name: [other.name] for each, other in command.together}
    if command.name:
        own["properties"] = {"command": {"const": command.name}, **own.get("properties", {})}
    else:
        own["properties"]["command"]["not"] = {"enum": [each.name for each in commands if each.name]}
        own.pop("required")  # that it is required stands in `common`
    name = {"command": command.name} if command.name else {}
    return {
        "title": title(command),
        "description": command.does,
        "allOf": [{"$ref": "#/definitions/common"}, own],
        "examples": [{**name, **each} for each in command.examples],
    }


def _object(fields: tuple[Field[Any], ...], forms: dict[str, Schema]) -> Schema:
    """The schema of an object of these fields; `forms` gets the definitions that it refers to."""
    found: Schema = {}
    if required := [each.name for each in fields if each.required and not each.aliases]:
        found["required"] = required
    for each in fields:
        if each.required and each.aliases:
            found["anyOf"] = [{"required": [name]} for name in (each.name, *each.aliases)]
    properties = {}
    for each in fields:
        properties[each.name] = _property(each, forms)
        for alias in each.aliases:
            properties[alias] = {**properties[each.name], "description": _sentence(_alias_help(each))}
    if properties:
        found["properties"] = properties
    return found


def _add_console(command: Declaration, own: Schema, forms: dict[str, Schema]) -> None:
    """Either the required fields, or none of them and `args`."""
    required = [(each.name, *each.aliases) for each in command.fields if each.required]
    names = [name for each in required for name in each]
    args = {
        "required": [ARGS.name],
        "properties": {ARGS.name: {**_referred(ARGS.form, forms), "minLength": 1}},
        "not": {"anyOf": [{"required": [name]} for name in names]},
    }
    own.pop("required", None)
    own["anyOf"] = [*({"required": list(each)} for each in product(*required)), args]
    own["properties"][ARGS.name] = {"description": _sentence(_console_help(command))}


def _property(field: Field[Any], forms: dict[str, Schema]) -> Schema:
    absent = f". Absent: {field.shown}" if field.shown else ""
    found: Schema = {"description": _sentence(field.help + absent)} | KINDS[field.kind].schema(field, forms)
    if isinstance(field.default, (str, bool)) and not field.shown and field.kind != "subject":
        found["default"] = field.default
    return found


def _referred(form: Form, forms: dict[str, Schema]) -> Schema:
    """A text in this form."""
    if not form.definition:
        return {"type": "string", **form.schema}
    forms[form.definition] = {"description": form.says, "type": "string", **form.schema}
    return {"allOf": [{"$ref": f"#/definitions/{form.definition}"}]}


def _sizes(low: int, high: int | None) -> Schema:
    return ({"minLength": low} if low else {}) | ({"maxLength": high} if high is not None else {})


def _string(field: Field[Any], forms: dict[str, Schema]) -> Schema:
    return _referred(field.form, forms) | _sizes(field.limits["low"], field.limits["high"])


def _strings(field: Field[Any], forms: dict[str, Schema]) -> Schema:
    one = _referred(field.form, forms) | _sizes(field.limits["low"], field.limits["high"])
    return {"anyOf": [one, {"type": "array", "minItems": 1, "maxItems": field.limits["most"], "items": one}]}


def _number(field: Field[Any], forms: dict[str, Schema]) -> Schema:
    limits = {"minimum": field.limits["low"], "maximum": field.limits["high"]}
    return {"type": "number"} | {key: value for key, value in limits.items() if value is not None}


def _subject(field: Field[Any], forms: dict[str, Schema]) -> Schema:
    unfit = f"[*>\\u0000-\\u0020\\u007f-\\u009f{WHITE}]"  # some of it twice
    return {
        "type": "string", "minLength": 1, "maxLength": MAX_SUBJECT_BYTES,
        "not": {"anyOf": [
            {"title": "wildcards, white space, control characters", "pattern": unfit},
            {"title": "an empty part between dots", "pattern": "^\\.|\\.\\.|\\.$"},
        ]},
    }  # fmt: skip


def _mapping(field: Field[Any], forms: dict[str, Schema]) -> Schema:
    values = _referred(field.form, forms)
    ref = values["allOf"][0] if "allOf" in values else values
    names = {"propertyNames": field.limits["names"]} if field.limits["names"] else {}
    return {
        "type": "object", **names, "additionalProperties": {"anyOf": [{"type": ["number", "boolean"]}, ref]},
    }  # fmt: skip


def pretty(value: Any, depth: int = 0, before: int = 0) -> str:
    """JSON in which everything that fits on one line stands on one; `before` characters stand before it."""
    line = json.dumps(value, ensure_ascii=False)
    if before + len(line) < WIDTH or not isinstance(value, (dict, list)) or not value:
        return line
    pad = " " * (depth + 2)
    if isinstance(value, dict):
        keys = [f"{pad}{json.dumps(key)}: " for key in value]
        parts = [key + pretty(each, depth + 2, len(key)) for key, each in zip(keys, value.values(), strict=True)]
        opening, closing = "{", "}"
    else:
        parts = [pad + pretty(each, depth + 2, depth + 2) for each in value]
        opening, closing = "[", "]"
        if all(isinstance(each, str) for each in value):
            parts = [pad + each for each in _filled(map(json.dumps, value))]
    return opening + "\n" + ",\n".join(parts) + "\n" + " " * depth + closing


def _filled(texts: Iterable[str]) -> list[str]:
    """Texts with commas between them, as many on a line as fit."""
    lines: list[str] = []
    for each in texts:
        if lines and len(lines[-1]) + len(each) < WIDTH - 20:
            lines[-1] += f", {each}"
        else:
            lines.append(each)
    return lines


# -- docs/API.md


def _type(field: Field[Any]) -> str:
    return KINDS[field.kind].type(field) + (", required" if field.required and not field.aliases else "")


def _words(field: Field[Any]) -> str:
    """Limits, for a table."""
    found = KINDS[field.kind].limits(field)
    return "; ".join(each for each in (found, field.form.limits) if each)


def _range(low: float | None, high: float | None) -> str:
    if high is None:
        return "not empty" if low else ""
    return f"{low}-{high}" if low else f"at most {high}"


def _default(field: Field[Any]) -> str:
    if field.shown:
        return field.shown
    return f"`{field.default}`" if isinstance(field.default, str) and field.default else ""


def _alias_help(field: Field[Any]) -> str:
    required = ". One of the two is required" if field.required else ""
    return f"another name for `{field.name}`, which wins where both are given{required}"


def _console_help(command: Declaration) -> str:
    return f"instead of the fields, as at FreeSWITCH's console: `{usage(command)}`"


def _rows(command: Declaration | None, fields: tuple[Field[Any], ...]) -> Iterator[list[str]]:
    name = f"`{command.name}`" if command else ""
    if command and not fields:
        yield [name, "", "", "", "", ""]
    for field in fields:
        yield [name, f"`{field.name}`", _type(field), _words(field), _default(field), field.help]
        name = ""
        for alias in field.aliases:
            yield [name, f"`{alias}`", _type(field), _words(field), _default(field), _alias_help(field)]
    if command and command.console:
        yield [name, f"`{ARGS.name}`", "string", "", "", _console_help(command)]


def table(rows: list[list[str]]) -> str:
    """A table of command, field, type, limits, default and help; columns without anything are left out."""
    heads = ["command", "field", "type", "limits", "default", ""]
    used = [at for at in range(len(heads)) if any(row[at] for row in rows)]
    lines = [[heads[at] for at in used], *([row[at] for at in used] for row in rows)]
    text = [re.sub(" {2,}", " ", f"| {' | '.join(line)} |") for line in lines]
    return "\n".join([text[0], "|---" * len(used) + "|", *text[1:]])


def _api_tables(commands: tuple[Declaration, ...]) -> dict[str, str]:
    """The tables by the name in their markers."""
    found = {"common": table(list(_rows(None, COMMON)))}
    together = [each for each in commands if each.name.startswith("dialplan.")]
    found["dialplan.*"] = table([row for each in together for row in _rows(each, each.fields)])
    for each in commands:
        if each.fields and each not in together:
            found[each.name or "API verb"] = table([["", *row[1:]] for row in _rows(each, each.fields)])
    return {name: f"\n{text}\n\n" for name, text in found.items()}


# -- docs/asyncapi.yaml


def _asyncapi_parts(commands: tuple[Declaration, ...]) -> dict[str, str]:
    names = [definition(each) for each in commands]
    requests = "".join(f'{name}: {{$ref: "#/components/messages/{name}"}}\n' for name in names)
    replies = "".join(f'{name}Reply: {{$ref: "#/components/messages/{name}Reply"}}\n' for name in names)
    operations = "\n".join(
        f'''{definition(each)}:
  action: receive
  summary: "{title(each)}"
  channel: {{$ref: "#/channels/allNodes"}}
  messages: [{{$ref: "#/channels/allNodes/messages/{definition(each)}"}}]
  reply:
    channel: {{$ref: "#/channels/reply"}}
    messages:
      - $ref: "#/channels/reply/messages/{definition(each)}Reply"
      - $ref: "#/channels/reply/messages/error"
'''
        for each in commands
    )
    messages = "".join(
        f'''{definition(each)}:
  title: "{title(each)}"
  payload: {{$ref: "./schemas/request.json#/definitions/{definition(each)}"}}
{definition(each)}Reply:
  title: "reply to {title(each)}"
  payload: {{$ref: "./schemas/reply.json#/definitions/{definition(each)}"}}
'''
        for each in commands
    )
    return {
        "requests": indent(requests, " " * 6),
        "replies": indent(replies, " " * 6),
        "operations": indent(operations, " " * 2),
        "messages": indent(messages, " " * 4),
    }


# -- all of it


class Kind:
    """How one kind of field is written: as a schema, and its type and limits in a table."""

    def __init__(
        self,
        schema: Callable[[Field[Any], dict[str, Schema]], Schema],
        type: str,
        limits: Callable[[Field[Any]], str] = lambda field: "",
    ) -> None:
        self.schema = schema
        self.type: Callable[[Field[Any]], str] = lambda field: type.format(**field.limits)
        self.limits = limits


KINDS = {
    "string": Kind(_string, "string", lambda field: _range(field.limits["low"], field.limits["high"])),
    "strings": Kind(
        _strings, "string, or list of 1 to {most}", lambda field: f"{field.limits['low']}-{field.limits['high']} each"
    ),
    "number": Kind(_number, "number", lambda field: _range(field.limits["low"], field.limits["high"])),
    "boolean": Kind(lambda field, forms: {"type": "boolean"}, "boolean"),
    "enum": Kind(
        lambda field, forms: {"enum": list(field.limits["choices"])}, "string",
        lambda field: " or ".join(", ".join(f"`{each}`" for each in field.limits["choices"]).rsplit(", ", 1)),
    ),
    "subject": Kind(_subject, "string", lambda field: f"at most {MAX_SUBJECT_BYTES:,} bytes; no wildcards"),
    "scalar": Kind(lambda field, forms: {"type": ["string", "number", "null"]}, "string or number"),
    "mapping": Kind(_mapping, "object", lambda field: "see below"),
}  # fmt: skip


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _between(text: str, parts: dict[str, str], begin: str, end: str) -> str:
    """`text` with what stands between markers replaced. KeyError if a marker has no part, or a part no marker."""
    pattern = re.compile(f"({begin.format('(.+?)')}\n)(.*?)( *{end})", re.DOTALL)
    left = dict(parts)
    text = pattern.sub(lambda match: match[1] + left.pop(match[2]) + match[4], text)
    if left:
        raise KeyError(f"no marker for {', '.join(left)}")
    return text


def written(commands: tuple[Declaration, ...] = COMMANDS) -> dict[Path, str]:
    """What each file is to hold."""
    api_md = (DOCS / "API.md").read_text(encoding="utf-8")
    asyncapi = (DOCS / "asyncapi.yaml").read_text(encoding="utf-8")
    return {
        DOCS / "schemas" / "request.json": request_schema(commands),
        DOCS / "API.md": _between(api_md, _api_tables(commands), "<!-- fields: {} -->", "<!-- end -->"),
        DOCS / "asyncapi.yaml": _between(asyncapi, _asyncapi_parts(commands), " *# commands: {}", "# end"),
    }


def main(arguments: list[str]) -> int:
    """Write, or check; the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    differing = {path: text for path, text in written().items() if path.read_text(encoding="utf-8") != text}
    for path, text in differing.items():
        if arguments:
            print(f"{path.relative_to(ROOT)} does not say what the commands declare: run tools/fields.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if arguments and differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
