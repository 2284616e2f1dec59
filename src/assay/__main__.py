"""`python -m assay` is the console script."""

from assay.cli.main import run

run()
