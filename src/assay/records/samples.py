"""What the arms of a study write when all are given one prompt and one seed: samples.json."""

from pathlib import Path

from assay.records.versioned import Versioned

FILE = "samples.json"


class Samples(Versioned):
    """One text an arm, of its first finished seed."""

    prompt: str
    """The beginning of the validation text."""
    sampler: str
    """In words."""
    seed: int
    """Of the draws."""
    texts: dict[str, str]
    """Label -> what followed the prompt, or in brackets why there is nothing."""


def read_samples(folder: Path) -> Samples | None:
    """Those in the folder of a study; None where there are none."""
    return Samples.read(folder / FILE) if (folder / FILE).exists() else None
