"""Runs one command in this process and captures its output."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from assay.cli.main import main


@dataclass(frozen=True)
class Result:
    """Exit status and both streams."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


@dataclass(frozen=True)
class Assay:
    """`assay(verb, ...)` is the command; `assay.small` are options that make a run of a second."""

    capsys: pytest.CaptureFixture[str]
    corpus: Path
    cwd: Path

    def __call__(self, *arguments: str) -> Result:
        self.capsys.readouterr()
        status = main(list(arguments))
        said = self.capsys.readouterr()
        return Result(status, said.out, said.err)

    @property
    def tokens(self) -> list[str]:
        """Options for two steps on little text, without a size."""
        text = f"--corpus text:{self.corpus} --tokenizer bytes --context 32 --batch-tokens 256 --tokens 512"
        return [*text.split(), "--set", "execution.threads=1", "--set", "evaluation.test_tokens=512"]

    @property
    def small(self) -> list[str]:
        """The same, and dimensions that suit every architecture and need no solving."""
        return [*self.tokens, "--set", "d_model=64", "--set", "n_layers=1"]

    def left(self) -> list[str]:
        """Everything in the working folder, to assert that a refused command leaves nothing."""
        return sorted(str(path.relative_to(self.cwd)) for path in self.cwd.rglob("*"))
