"""Makes a test of each TypeScript example in clients/node/README.md: test/readme.test.ts, which is not committed.

An example that connects by itself runs as it stands; the others find `fs`, a client that is connected. While one runs
calls are made; one that has no end of its own (an IVR, a loop over events) has its client closed after a while.
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "clients" / "node"
IMPORT = re.compile(r'import \{ ([^}]*) \} from "event-agent-client";\n')

HEAD = """import { test } from "node:test";
import { %s } from "event-agent-client";
import { example } from "./examples.js";
"""
TEST = """
test("README.md, line %d", () => example(%s, async (%s) => {
%s}));
"""


def main() -> None:
    names: set[str] = set()
    tests = []
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for found in re.finditer(r"^```ts\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        code = found[1]
        for line in IMPORT.finditer(code):
            names |= {name.strip() for name in line[1].split(",")} - {"connect"}
        code = IMPORT.sub("", code).replace("const fs = await connect(", "fs = await connect(")
        given = "fs, connect" if "connect(" in code else "fs"
        endless = "true" if "for await (" in code else "false"
        tests.append(TEST % (text[: found.start()].count("\n") + 1, endless, given, code.lstrip("\n")))
    target = FOLDER / "test" / "readme.test.ts"
    made = HEAD % ", ".join(sorted(names)) + "".join(tests)
    if not target.exists() or target.read_text(encoding="utf-8") != made:
        target.write_text(made, encoding="utf-8")


