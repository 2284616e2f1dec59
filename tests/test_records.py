"""Records: what is written is read back the same, another version or a broken file is refused, files are whole."""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from assay.errors import RequestError
from assay.records import Column, CurvePoint, Likelihood, Record, Versioned, write_whole


class Result(Versioned):
    """A small record that uses what the real ones use; its version 2 called the status outcome."""

    version: ClassVar[int] = 3
    status: Literal["finished", "diverged"]
    test: Likelihood | None
    signals: Column | None
    curve: list[CurvePoint]
    dimensions: dict[str, Any]

    @classmethod
    def upgraded(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name != "outcome"} | {"status": values["outcome"]}


def likelihood(nats_per_token: float) -> Likelihood:
    return Likelihood(
        nats_per_token=nats_per_token,
        perplexity=math.exp(min(nats_per_token, 700.0)),
        bits_per_byte=None,
        tokens=7,
        bytes=None,
        document_nats=[0.1, 1e-300, 3.0],
        document_tokens=[1, 2, 4],
        document_bytes=[3, 0, 9],
        nats_by_position=[1.0, 1 / 3],
        position_edges=[0, 2, 4],
    )


def result(nats_per_token: float = 1 / 3) -> Result:
    return Result(
        status="finished",
        test=likelihood(nats_per_token),
        signals=None,
        curve=[CurvePoint(step=1, tokens=512, nats_per_token=8.3), CurvePoint(step=2, tokens=1024, nats_per_token=0.1)],
        dimensions={"d_model": 96, "name": 'a"b\\ü\n', "inner": {"eps": 1e-5, "flags": [True, None]}},
    )


def refusal(path: Path) -> str:
    """The one line that reading `path` is refused with."""
    with pytest.raises(RequestError) as caught:
        Result.read(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def rewritten(path: Path, remove: str = "", **changes: Any) -> Path:
    """`path` with some of its top-level values changed and one removed."""
    values = {**json.loads(path.read_text()), **changes}
    values.pop(remove, None)
    path.write_text(json.dumps(values))
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "record.json"
    result().write(path)
    return path


@pytest.mark.parametrize("nats_per_token", [1 / 3, 1e-12, math.inf, 5e-324])
def test_round_trip_is_exact(tmp_path: Path, nats_per_token: float) -> None:
    path = tmp_path / "record.json"
    result(nats_per_token).write(path)
    assert Result.read(path) == result(nats_per_token)


def test_nan_survives(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    result(math.nan).write(path)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    test = Result.read(path).test
    assert test is not None
    assert math.isnan(test.nats_per_token)


def test_same_record_is_the_same_bytes(tmp_path: Path, written: Path) -> None:
    again = tmp_path / "again.json"
    Result.read(written).write(again)
    assert again.read_bytes() == written.read_bytes()


def test_every_file_says_the_version_of_its_class(written: Path) -> None:
    assert json.loads(written.read_text())["schema_version"] == Result.version == 3


@pytest.mark.parametrize("version", [4, 0, -1, "x", True, 2.0])
def test_a_version_it_does_not_know_is_refused(written: Path, version: object) -> None:
    line = refusal(rewritten(written, schema_version=version, new_field=1))
    assert line.endswith(f"schema version {version}; this assay reads 1 to 3")


def test_an_older_version_is_read_in_the_fields_of_today(written: Path) -> None:
    old = rewritten(written, remove="status", schema_version=2, outcome="diverged")
    assert Result.read(old) == result().model_copy(update={"status": "diverged"})


def test_a_new_field_with_a_default_leaves_older_files_readable(written: Path) -> None:
    class Newer(Result):
        note: str = "none"

    assert Newer.read(written).note == "none"


def test_a_class_has_a_version_of_its_own() -> None:
    class Other(Versioned):
        pass

    assert Other().schema_version == 1
    assert result().schema_version == 3


def test_schema_version_is_never_guessed(written: Path) -> None:
    assert "schema version None" in refusal(rewritten(written, remove="schema_version"))


def test_unknown_and_missing_fields_are_named(written: Path) -> None:
    assert "(extra: Extra inputs are not permitted)" in refusal(rewritten(written, extra=1))
    written.unlink()
    result().write(written)
    assert "not a Result this assay can read (curve: Field required)" in refusal(rewritten(written, remove="curve"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"schema_version": 1'])
def test_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    refusal(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.json")


def test_records_are_frozen_and_strict() -> None:
    point = CurvePoint(step=1, tokens=2, nats_per_token=3.0)
    with pytest.raises(ValueError, match="frozen"):
        point.step = 2  # type: ignore[misc]
    with pytest.raises(ValueError, match="Extra inputs"):
        CurvePoint.model_validate({**point.model_dump(), "loss": 1.0})


def test_every_record_class_forbids_unknown_fields() -> None:
    def below(cls: type[Record]) -> set[type[Record]]:
        return {cls}.union(*(below(child) for child in cls.__subclasses__()))

    classes = below(Record)
    assert len(classes) > 10
    assert all(cls.model_config["extra"] == "forbid" and cls.model_config["frozen"] for cls in classes)


def test_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"long old content")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_content_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        fsync(handle)
        done.append("fsync")

    def noted_replace(old: Path, new: Path) -> None:
        replace(old, new)
        done.append("replace")

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_whole(tmp_path / "file", b"content")
    assert done[:2] == ["fsync", "replace"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file mode of this kind")
def test_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "file", b"content")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "file")}
    assert len(modes) == 1
