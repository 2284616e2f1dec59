"""What a SUBJECT names follows from its text and the files there, in the same way for every command."""

from pathlib import Path

import pytest

from assay.study.subject.subject import Kind, parse_subject


@pytest.mark.parametrize(
    ("text", "kind", "name", "architecture"),
    [
        ("gpt1", "arm", "", "gpt1"),
        ("gpt1:n_layers=1", "arm", "", "gpt1"),
        ("small=gpt1:n_layers=1", "arm", "", "gpt1"),
        ("mine.py", "file", "", ""),
        ("mine.py:Model", "file", "Model", ""),
        ("hf:somewhere", "hub", "", ""),
        ("hf:gpt1.py", "hub", "", ""),
        ("results", "folder", "", ""),
        ("nowhere", "unknown", "", ""),
        ("nowhere:n_layers=1", "unknown", "", ""),
    ],
)
def test_each_kind_is_told_apart(
    text: str, kind: Kind, name: str, architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("results", "gpt1"):  # an architecture's name goes before a folder
        Path(folder).mkdir()
    found = parse_subject(text)
    assert (found.kind, found.name, found.architecture) == (kind, name, architecture)


def test_a_file_is_where_its_name_ends(tmp_path: Path) -> None:
    assert parse_subject(f"{tmp_path}/mine.py:Model").path == tmp_path / "mine.py"


def test_what_is_not_there_is_told_with_the_nearest_name() -> None:
    assert str(parse_subject("gpt3").unknown()).startswith(
        "gpt3: no architecture, folder of a run, FILE.py or hf:PATH; did you mean 'gpt"
    )
