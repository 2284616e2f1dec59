"""constraints.txt pins every version that the README's commands install, and pyproject.toml admits each pin."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD_TOOLS = {"setuptools", "pip", "wheel"}
"""Belong to the environment: every new one brings its own."""


def read_pins(text: str) -> dict[str, str]:
    """{canonical name: version}; a line of any other form fails."""
    pins: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
            assert match, f"{line!r} is not NAME==VERSION without a local part"
            pins[canonicalize_name(match[1])] = match[2]
    return pins


PINS = read_pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))


def declared() -> list[Requirement]:
    project = PROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for lines in lists for line in lines]


def unpinned(roots: list[Requirement], pins: dict[str, str]) -> set[str]:
    """Names below `roots`, among what is installed, that neither `pins` nor their requirer fixes."""
    seen: set[str] = set()
    missing: set[str] = set()
    todo = list(roots)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        exact = any(part.operator == "==" and "*" not in part.version for part in requirement.specifier)
        if name not in pins and name not in BUILD_TOOLS and not exact:
            missing.add(name)
        try:
            lines = [] if name in seen else importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # the hub extra need not be here
            continue
        seen.add(name)
        inner = [Requirement(line) for line in lines]
        extras = requirement.extras or {""}
        todo += [r for r in inner if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
    return missing


def test_torch_is_pinned_without_a_build() -> None:
    assert PINS["torch"] == "2.13.0"
    assert not BUILD_TOOLS & set(PINS)
    assert "assay" not in PINS


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_pin_is_one_that_the_project_admits(requirement: Requirement) -> None:
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_everything_below_is_pinned_too() -> None:
    assert unpinned(declared(), PINS) == set()


def test_missing_pin_is_caught() -> None:
    assert unpinned(declared(), {name: pin for name, pin in PINS.items() if name != "pydantic-core"}) == set()
    assert unpinned(declared(), {name: pin for name, pin in PINS.items() if name != "mpmath"}) == {"mpmath"}


def test_form_of_a_line_is_checked() -> None:
    for line in ("torch==2.13.0+cpu", "torch>=2.13", "-e .", "torch"):
        with pytest.raises(AssertionError, match="is not NAME==VERSION"):
            read_pins(line)


def test_build_backend_is_pinned_to_the_tested_one() -> None:
    assert PROJECT["build-system"]["requires"] == [f"hatchling=={PINS['hatchling']}"]
