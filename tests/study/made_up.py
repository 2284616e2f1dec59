"""A made-up language, and the type of the function that makes a small study of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from assay.study.asked import StudyConfig

Make = Callable[..., StudyConfig]


def write_corpus(folder: Path, documents: int = 40, words: int = 150, seed: int = 0) -> Path:
    """Documents of a made-up language in which each word predicts the next."""
    draw = np.random.default_rng(seed)
    vocabulary = ["".join(draw.choice(list("abcdefghij"), 3)) for _ in range(60)]
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(documents):
        word, text = int(draw.integers(60)), []
        for _ in range(words):
            text.append(vocabulary[word])
            word = (word * 7 + 3 + int(draw.integers(3))) % 60
        (folder / f"{index:03}.txt").write_text(" ".join(text), encoding="utf-8")
    return folder
