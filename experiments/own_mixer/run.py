"""A user's own mixer, that of my_mixer.py, against gpt1: same norms, MLP and size, only the mixer differs.

Run it with `.venv/bin/python experiments/own_mixer/run.py [--corpus text:PATH]`. It prints the table and leaves a study
(page, records) in the folder of --out; the same command continues one that was interrupted.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from assay.api import compare
from assay.cli.progress import StudyProgress
from assay.cli.show import show_study
from assay.errors import RequestError
from assay.plugins.loading import load_plugin

ARMS = ["gpt1", "moving-average"]
CONTEXT, BATCH_TOKENS = 128, 512


def protocol(corpus: str, tokenizer: str, smoke: bool) -> dict[str, Any]:
    """Settings of the study; `smoke` is the same at a hundredth of the text and a tiny size."""
    return {
        "size": None if smoke else 1_000_000,
        "seeds": [0, 1] if smoke else [0, 1, 2],
        "model": {"body": "common"} | ({"d_model": 32, "n_layers": 2, "gpt1": {"n_heads": 2}} if smoke else {}),
        "data": {"corpus": corpus, "tokenizer": tokenizer},
        "training": {
            "tokens": 2_048 if smoke else 262_144,
            "batch_tokens": BATCH_TOKENS,
            "context": CONTEXT,
            "validation_tokens": 512 if smoke else 16_384,
        },
        "evaluation": {"test_tokens": 1_024 if smoke else 32_768},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default="stdlib", help="as in `assay compare --corpus` (default: stdlib)")
    parser.add_argument("--tokenizer", default="bpe:4096", help="as in `assay compare` (default: bpe:4096)")
    parser.add_argument("--out", type=Path, default=Path("runs/own_mixer"), help="folder of the study")
    parser.add_argument("--scale", choices=["smoke", "full"], default="full", help="smoke: seconds instead of minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    load_plugin(Path(__file__).with_name("my_mixer.py"))
    settings = protocol(options.corpus, options.tokenizer, options.scale == "smoke")
    try:
        with StudyProgress(BATCH_TOKENS) as progress:
            study = compare(ARMS, options.out, progress, **settings)
    except RequestError as error:
        print(f"own_mixer: {error}", file=sys.stderr)
        return 2
    show_study(study, options.out, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
