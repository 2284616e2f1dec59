"""The page under axe, in Chromium: no violation, at a desk and on a telephone, light and dark.

Needs Chromium and npm's axe-core: `npm install --no-save axe-core` in the root of the repository, or ASSAY_AXE=FILE.
"""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from assay.report.page import write_report
from assay.report.unfinished import Progress, write_unfinished
from report.factory import run, runs, study

AXE = Path(os.environ.get("ASSAY_AXE") or Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUN = "<script>axe.run().then(found => { document.body.dataset.found = JSON.stringify(found.violations); });</script>"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or not AXE.exists(), reason="needs Chromium and npm's axe-core"),
]


def violations(page: Path, width: int, *flags: str) -> list[dict[str, Any]]:
    """What axe says of `page`, from a copy whose policy lets it run."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="(Content-Security-Policy|refresh)"[^>]*>', "", text)
    copy = page.with_name("axe.html")
    copy.write_text(text.replace("</body>", f"<script>{AXE.read_text(encoding='utf-8')}</script>{RUN}</body>"))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=60000",
        f"--window-size={width},900",
    ]
    command = [str(CHROMIUM), *options, *flags, "--dump-dom", copy.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    (found,) = re.findall(r'<body[^>]* data-found="([^"]*)"', dom)
    said: list[dict[str, Any]] = json.loads(html.unescape(found))
    return said


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, unfinished = tmp_path_factory.mktemp("finished"), tmp_path_factory.mktemp("unfinished")
    some = [*runs(2), run("other", 0), run("other", 1)]
    write_unfinished(unfinished, ["gpt1"], [0, 1], {("gpt1", 0): Progress(3, 9)}, "2026-01-02 03:04:05 UTC")
    return [write_report(study(some), some, {}, folder), unfinished / "report.html"]


@pytest.mark.parametrize("flags", [[], ["--blink-settings=preferredColorScheme=0"]], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 500])
def test_axe_finds_nothing(pages: list[Path], width: int, flags: list[str]) -> None:
    for page in pages:
        found = violations(page, width, *flags)
        told = [(of["id"], of["help"], [node["html"][:200] for node in of["nodes"][:3]]) for of in found]
        assert told == []
