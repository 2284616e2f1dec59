"""How a record becomes a file and is read again: typed, frozen, whole or absent, of a version of its own."""

import json
import os
import re
import uuid
from pathlib import Path
from typing import Any, ClassVar, Self

import pydantic

from assay.errors import RequestError


class Record(pydantic.BaseModel):
    """A frozen result; unknown fields are an error, so that an old reader never guesses."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Versioned(Record):
    """A record that is a file of its own. Each class counts its own versions: older ones are read, newer refused.

    A new field with a default needs no new version. What else changes raises `version`, and `upgraded` then turns the
    fields of every older version into those of today.
    """

    version: ClassVar[int] = 1
    """Of this class, as it is written."""
    schema_version: int = pydantic.Field(default=0, validate_default=True)

    @pydantic.field_validator("schema_version")
    @classmethod
    def _of_today(cls, version: int) -> int:
        return version or cls.version

    @classmethod
    def upgraded(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The `values` of an older version in the fields of today."""
        return values

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record at `path`; a file that is missing, broken or of a newer version is a RequestError."""
        try:
            content = path.read_bytes()
            values = json.loads(content)
        except OSError as error:
            raise RequestError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise RequestError(f"{path}: not JSON ({error})") from None
        version = values.get("schema_version") if isinstance(values, dict) else None
        if type(version) is not int or not 1 <= version <= cls.version:  # first: another version has other fields
            known = "1" if cls.version == 1 else f"1 to {cls.version}"
            raise RequestError(f"{path}: schema version {version}; this assay reads {known}")
        try:
            if version < cls.version:
                content = json.dumps({**cls.upgraded(values), "schema_version": cls.version}).encode()
            return cls.model_validate_json(content)
        except (pydantic.ValidationError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(f"{path}: not a {cls.__name__} this assay can read ({_first(error)})") from None

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        write_whole(path, self.content())

    def content(self) -> bytes:
        """What `write` writes: the same record gives the same bytes."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def _first(error: Exception) -> str:
    """The first thing that is wrong, in a few words."""
    if not isinstance(error, pydantic.ValidationError):
        return f"{type(error).__name__}: {error}"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # `is_part` knows it
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def is_part(name: str) -> bool:
    """Whether a file of this name is what `write_whole` leaves where its process is killed."""
    return re.fullmatch(r"\..+\.[0-9a-f]{32}", name) is not None
