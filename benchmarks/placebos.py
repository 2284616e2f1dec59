"""Real tiny gates of a baseline against itself: how often one is not UNDECIDED.

    .venv/bin/python benchmarks/placebos.py [--gates 40] [--baseline gpt1] [--seeds 2] [--out FOLDER] [--processes 2]

Every gate has initialisations of its own for both arms, tunes both and judges them by the primary criterion of the
rule `assay`; about a minute of one core each. What was done is read, so it continues where it stopped, and finished
gates are judged anew by the code as it is. benchmarks/verdicts.py has many simulated ones.
"""

import argparse
import collections
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from assay.analysis.gate.rule import parse_rule
from assay.analysis.intervals.proportions import clopper_pearson
from assay.cli.options import StudyOptions
from assay.errors import RequestError
from assay.gating.asked import GateRequest
from assay.gating.carry_out import carry_out_gate
from assay.records.gate import GatePlan
from assay.study.compare import Silent

SIZES, TOKENS_PER_PARAMETER = (10_000, 20_000), 4.0
SETTINGS = [
    "execution.threads=1",
    "training.validation_tokens=16384",
    "training.validation_interval=1000000",
    "evaluation.test_tokens=16384",
]


def one_gate(baseline: str, seeds: int, out: Path, number: int) -> str:
    """The verdict of the placebo number `number`."""
    arms = [f"{name}={baseline}:replicate={2 * number + at}" for at, name in enumerate(("first", "second"))]
    if number == 0:
        arms[0] = f"first={baseline}"
    study = StudyOptions(context="32", batch_tokens="512", set=SETTINGS).study(arms, [0])
    request = GateRequest(
        candidates=study.arms[1:],
        baseline=study.arms[0],
        study=study,
        rule=parse_rule({"name": "primary", "kind": "intervals"}),
        sizes=SIZES,
        seeds=seeds,
        tokens_per_parameter=TOKENS_PER_PARAMETER,
    )
    try:
        found = carry_out_gate(request, out / f"gate-{number}", Silent(), 1)
    except RequestError as error:
        return f"failed: {error}"
    assert not isinstance(found, GatePlan)
    print(f"gate {number}: {found.verdicts[0].sentence}", flush=True)
    return found.verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=40)
    parser.add_argument("--baseline", default="gpt1")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/placebos"))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    gate = partial(one_gate, given.baseline, given.seeds, given.out)
    with ProcessPoolExecutor(given.processes, multiprocessing.get_context("spawn")) as pool:
        words = list(pool.map(gate, range(given.gates)))
    for word, count in collections.Counter(words).most_common():
        _, low, high = clopper_pearson(count, given.gates)
        print(f"{word}: {count} of {given.gates} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
