"""Document 001's experiment, as it was run and as it should be: does a hybrid of memory and attention use its memory?

    .venv/bin/python experiments/document_001/run.py [--scale smoke|pocket] [--only "NAME;..."] [--json]

Models of the gated delta rule alone in three sizes, and its hybrid with attention over a window under the document's
conditions, each in two forms. *Replica*: states that have seen later tokens, a text that is cut before its question,
the five likeliest of all tokens, training losses as perplexity. *Causal*: no leak, whole texts, the likeliest of eight
colours, and each token from what stands before it. A run that was killed is gone on with.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from conditions import CONDITIONS, FORMS, SCALES
from table import Outcomes, show
from trial import outcome
from vocabulary import made

from assay.errors import RequestError


def carried_out(names: list[str], forms: list[str], scale: str, corpus: str, out: Path, jobs: int) -> Outcomes:
    """All conditions in all forms, `jobs` at once."""
    made(corpus, SCALES[scale].vocabulary, out)
    found: Outcomes = {name: {} for name in names}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {
            pool.submit(outcome, name, form, scale, corpus, out): (name, form) for name in names for form in forms
        }
        for number, done in enumerate(as_completed(waiting), 1):
            name, form = waiting[done]
            found[name][form] = done.result()
            print(f"{number} of {len(waiting)}: {name}, {form}", file=sys.stderr)
    return found


def main() -> int:
    names = [condition.name for condition in CONDITIONS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=list(SCALES), default="pocket", help="smoke: seconds, and no result")
    parser.add_argument("--only", help=f"conditions, separated by semicolons: {'; '.join(names)}")
    parser.add_argument("--form", choices=FORMS, help="one of the two (default: both)")
    parser.add_argument("--corpus", default="stdlib", help="as in `assay train --corpus` (default: stdlib)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="runs at once (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("runs/document_001"), help="folder of the runs")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    wanted = [name.strip() for name in options.only.split(";")] if options.only else names
    if unknown := [name for name in wanted if name not in names]:
        print(f"document_001: --only {unknown[0]}: one of {'; '.join(names)} would do", file=sys.stderr)
        return 2
    forms = [options.form] if options.form else list(FORMS)
    try:
        out = (options.out / options.scale).resolve()
        outcomes = carried_out(wanted, forms, options.scale, options.corpus, out, max(1, options.jobs))
    except RequestError as error:
        print(f"document_001: {error}", file=sys.stderr)
        return 2
    show(outcomes)
    if options.json:
        document = {of.name: of._asdict() for of in CONDITIONS if of.name in wanted}
        print(json.dumps({"document": document, "outcomes": outcomes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
