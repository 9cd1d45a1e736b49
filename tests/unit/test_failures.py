"""Answers of FreeSWITCH 1.10.12: which say that a verb has failed. For real in tests/functional/test_outcomes.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from event_agent.commands.api import api_outcome
from event_agent.commands.failures import TABLE, failure

ROOT = Path(__file__).resolve().parent.parent.parent

FAILED = [
    ("load", "mod_nope", "+OK Reloading XML\n-ERR [module load file routine returned an error]\n",
     "-ERR [module load file routine returned an error]"),
    ("reload", "mod_busy", "+OK Reloading XML\n-ERR unloading module [Module in use]\n"
     "-ERR loading module [Module already loaded]\n", "-ERR loading module [Module already loaded]"),
    ("reload", "mod_expr", "+OK Reloading XML\n+OK module unloaded\n-ERR loading module [it is gone]\n",
     "-ERR loading module [it is gone]"),
    ("reloadxml", "", "+OK [[error near line 92]: unclosed tag <document>]\n",
     "[error near line 92]: unclosed tag <document>"),
    ("reloadxml", "", "+OK [Cannot Open log directory or XML Root!]\n", "Cannot Open log directory or XML Root!"),
    ("sofia", "profile test rescan", "Reload XML [[error near line 9]: x]\n+OK scan complete\n",
     "Reload XML [[error near line 9]: x]"),
    ("sofia", "profile test start", "Reload XML [Success]\nFailure starting test\n", "Failure starting test"),
    ("sofia", "profile test rescan", "Reload XML [Success]\n-ERR cannot find config for profile test\n",
     "-ERR cannot find config for profile test"),
    ("sofia", "profile my_own restart",
     "Profile my_own must be up for at least 10 seconds to stop/restart.\nPlease wait 1 second\n",
     "Profile my_own must be up for at least 10 seconds to stop/restart.\nPlease wait 1 second"),
    ("conference", "c transfer d 1 9", "+OK Member '1' sent to conference d.\n-ERR No Member 9 in conference c.\n",
     "-ERR No Member 9 in conference c."),
    ("conference", "c exit_sound", "-ERR Not enough args\nexit_sound on|off|none|file <filename>",
     "-ERR Not enough args\nexit_sound on|off|none|file <filename>"),
    ("conference", "c dial user/1", "+OK Call Requested: result: [USER_BUSY]\n", "-ERR USER_BUSY"),
    ("lua", "x.lua", "Content\n-ERR Cannot execute script\n", "-ERR Cannot execute script"),
    ("lua", "x.lua", "no line break-ERR Cannot execute script\n", "-ERR Cannot execute script"),
    ("json", "{}", '{"status":"error","message":"no","response":null}\n', "no"),
    ("sofia_dig", "xml nope", "<routes>\n-ERR: nope: not found\n</routes>\n", "-ERR: nope: not found"),
    ("expand", "UUID:x LOAD mod_nope", "+OK Reloading XML\n-ERR [no]\n", "-ERR [no]"),
    ("Chat", "x", "Invalid", "Invalid"),
    ("uuid_buglist", "x", "-ERR no reply\n", "-ERR no reply"),
    ("uuid_kill", "x", "-ERR No such channel!\n", "-ERR No such channel!"),
    ("uuid_answer", "x", "-ERROR\n", "-ERROR"),
]
DONE = [
    ("reload", "mod_expr", "+OK Reloading XML\n-ERR unloading module [No such module!]\n+OK module loaded\n"),
    ("load", "mod_expr", "+OK Reloading XML\n+OK\n"),
    ("reloadxml", "", "+OK [Success]\n"),
    ("sofia", "help", "USAGE:\n---\n"),
    ("sofia", "profile test restart", "Reload XML [[error near line 9]: x]\nrestarting: test"),  # and so it does
    ("sofia", "status", "  Name\tType\nInvalid Gateway!\tgateway\tx\n"),
    ("conference", "c list", "1;loopback/a;u;kick <[x;1000;hear|speak;0;0;0\n"),
    ("conference", "c getvar x", "list [of things]"),
    ("conference", "", "<conf name> kick <[member_id|all|last|non_moderator]> [<optional sound file>]\n"),
    ("lua", "x.lua", "one\n-ERR is what this line begins with\nthree\n"),
    ("db", "select/a/b", "!err! and more"),
    ("json", "{}", '{"response":{"status":"error"},"status":"success"}\n'),
    ("json", "{}", "[" * 5000),
    ("expand", "echo Invalid Gateway!", "Invalid Gateway!"),
    ("expand", "${verb} x", "Invalid Gateway!"),
    ("local_stream", "show", "-ERR no reply\n"),
    ("global_getvar", "x", "-ERR no reply\n"),
    ("echo", "x", "Error! Message Not Sent"),
    ("no_row", "x", "USAGE: x"),
]


@pytest.mark.parametrize(("verb", "args", "answer", "message"), FAILED)
def test_it_has_failed(verb: str, args: str, answer: str, message: str) -> None:
    outcome = api_outcome(answer, verb, args)
    assert not outcome.ok and outcome.message == message and outcome.data == answer


@pytest.mark.parametrize(("verb", "args", "answer"), DONE)
def test_it_has_not(verb: str, args: str, answer: str) -> None:
    outcome = api_outcome(answer, verb, args)
    assert outcome.ok and outcome.data == ("" if answer == "-ERR no reply\n" else answer)


def test_verbs_within_verbs_come_to_an_end() -> None:
    assert failure("expand", "expand " * 20000 + "chat x", "Invalid") == "Invalid"
    assert failure("expand", "expand " * 20000, "Invalid") == ""


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="not a checkout")
def test_the_api_names_them() -> None:
    text = (ROOT / "docs" / "API.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"<!-- verbs that fail in other words -->\n(.*?)\n\n", text, re.DOTALL)
    assert sorted(re.findall(r"`(\w+)`", named)) == sorted(verb for row in TABLE for verb in row.verbs)
