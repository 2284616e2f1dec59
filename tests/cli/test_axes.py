"""What `assay list` remembers: the same as the registries say, for as long as no source changes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import assay
from assay.cli import axes


def listed(cache: Path) -> tuple[str, bool]:
    """What `assay list --json` says in a process of its own, and whether that process imported torch."""
    code = "import sys; from assay.cli.main import main; main(['list', '--json']); print('torch' in sys.modules)"
    environment = {**os.environ, "ASSAY_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    said, torch = done.stdout.splitlines()
    return said, torch == "True"


def test_remembers_what_the_registries_say(tmp_path: Path) -> None:
    first, second = listed(tmp_path), listed(tmp_path)
    assert first == (json.dumps(axes.ask()), True)
    assert second == (first[0], False)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b'{"key": "k"}', b'{"key": "other", "axes": {}}', b'{"key": "k", "axes": {"tasks": {}}}'],
)
def test_what_cannot_be_read_is_asked_again(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "axes.json"
    place.write_bytes(content)
    assert axes._read(place, "k") is None
    axes._write(place, "k", axes.ask())
    assert axes._read(place, "k") == axes.ask()


def test_a_changed_source_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "__init__.py"
    module.write_text("")
    monkeypatch.setattr(assay, "__file__", str(module))
    before = axes._key()
    assert axes._key() == before
    (tmp_path / "gpt9.py").write_text("a new architecture")
    assert axes._key() != before


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    axes._write(tmp_path / "file" / "axes.json", "k", {})
