"""What must answer at once, or on a machine that only re-judges old runs, imports no torch."""

import subprocess
import sys

import pytest


def loaded(*arguments: str) -> set[str]:
    """The modules that `python ARGUMENTS` imports on its way to a successful end."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-c", "import assay"], "assay"),
        (["-c", "import assay.analysis.comparison, assay.report.page, assay.records"], "assay.report.page"),
        (["-c", "import assay.data.text.prepare"], "assay.data.text.prepare"),
        (["-m", "assay", "--help"], "assay.cli.main"),
        (["-m", "assay", "compare", "--help"], "assay.cli.main"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_no_torch(arguments: list[str], expected: str) -> None:
    modules = loaded(*arguments)
    assert expected in modules
    assert "torch" not in modules


def test_torch_would_be_seen() -> None:
    assert "decimal" in loaded("-c", "def late():\n    import decimal\nlate()")
