"""The panel's work in small pieces (examples/panel/static/frames.js), run by Node.js without a browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("examples.panel", reason="not a checkout")

FRAMES = Path(__file__).parents[2] / "examples" / "panel" / "static" / "frames.js"
PAGE = """
const waiting = [];
globalThis.requestAnimationFrame = (job) => waiting.push(job);
globalThis.cancelAnimationFrame = (number) => { if (number) waiting[number - 1] = null; };
const { inFrames } = await import("FRAMES");
const did = [];
inFrames(() => { did.push("first"); inFrames(() => { did.push("within"); }); });
inFrames((end) => { did.push("pieces"); return did.length < 5; });
let frames = 0;
while (waiting.some(Boolean)) {
  const job = waiting.find(Boolean);
  waiting[waiting.indexOf(job)] = null;
  job();
  frames += 1;
}
inFrames(() => { did.push("later"); });
waiting.find(Boolean)();
console.log(did.join(" "));
process.exit(frames > 3 ? 1 : 0);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js")
def test_work_that_asks_for_more_within_its_frame(tmp_path: Path) -> None:
    """What it asks for is done in the same frame if there is time, and the next frame finds nothing to do."""
    module = tmp_path / "frames.mjs"
    module.write_text(FRAMES.read_text())
    page = tmp_path / "page.mjs"
    page.write_text(PAGE.replace("FRAMES", module.as_uri()))
    done = subprocess.run(["node", page], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["first", "pieces", "within", "pieces", "pieces", "later"]
