"""What must answer at once imports nothing heavy; what runs on a machine that only re-judges old runs, no torch."""

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


HEAVY = {"torch", "numpy", "scipy", "altair", "yaml", "rich", "assay.config", "assay.records"}


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Pydantic neither, but where typer itself imports it, which it does for a verb."""
    modules = loaded("-m", "assay", *arguments)
    assert "assay.cli.main" in modules
    assert not modules.intersection(HEAVY)


def test_the_second_list_imports_no_torch() -> None:
    first, second = (loaded("-m", "assay", "list") for _ in range(2))
    assert "assay.cli.axes" in first
    assert "assay.cli.axes" in second
    assert not second.intersection({"torch", "numpy", "scipy", "assay.model"})


def test_torch_would_be_seen() -> None:
    assert "decimal" in loaded("-c", "def late():\n    import decimal\nlate()")
