"""Which of assay's sources decide a run's numbers, so that a run does not go on with others."""

from pathlib import Path

import pytest

import assay
from assay.training import version
from assay.training.version import DECIDING, assay_version, sources_digest

PACKAGE = Path(assay.__file__).parent


def test_every_deciding_source_is_there() -> None:
    assert all((PACKAGE / place).exists() for place in DECIDING)


@pytest.mark.parametrize(
    ("edited", "counts"),
    [
        ("layers/norms.py", True),
        ("ops/native/attention.cpp", True),
        ("ops/native/products.h", True),
        ("evaluation/scoring.py", True),
        ("evaluation/measurements/likelihood.py", True),
        ("evaluation/measurements/recall.py", False),
        ("evaluation/measurement.py", False),
        ("report/page.py", False),
    ],
)
def test_the_likelihood_decides_and_the_words_of_other_measurements_do_not(
    edited: str, counts: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The version of a package that has just the edited file, before and after."""
    path = tmp_path / "assay" / edited
    for place in (*DECIDING, edited):
        here = tmp_path / "assay" / place
        (here.parent if here.suffix else here).mkdir(parents=True, exist_ok=True)
        if here.suffix:
            here.write_text("")
    monkeypatch.setattr(version, "__file__", str(tmp_path / "assay" / "training" / "version.py"))
    versions = []
    for text in ("before", "after"):
        path.write_text(text)
        _forget()
        versions.append(assay_version())
    _forget()
    assert (versions[0] != versions[1]) == counts


def _forget() -> None:
    assay_version.cache_clear()
    sources_digest.cache_clear()
