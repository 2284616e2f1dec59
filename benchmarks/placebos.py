"""Real tiny gates of a baseline against itself: how often one is not UNDECIDED. Trains every run, so it takes hours.

    .venv/bin/python benchmarks/placebos.py [--gates 40] [--baseline gpt1] [--out FOLDER] [--processes 2]

Every gate has initialisations of its own for both arms, tunes both and judges them by the rule `assay`'s primary
criterion. What was done is read, so it continues where it stopped. benchmarks/verdicts.py has many simulated ones.
"""

import argparse
import collections
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from assay.analysis.intervals.proportions import clopper_pearson

SETTINGS = "--sizes 10k,20k --seeds 3 --tokens-per-parameter 10 --context 64 --workers 1 --json"
RULE = "name: primary\nkind: intervals\n"


def one_gate(baseline: str, number: int, out: Path) -> str:
    """The verdict of the placebo number `number`."""
    first, second = f"first={baseline}:replicate={2 * number}", f"second={baseline}:replicate={2 * number + 1}"
    if number == 0:
        first = f"first={baseline}"
    command = [sys.executable, "-m", "assay", "gate", second, "--against", first, *SETTINGS.split()]
    command += ["--rule", str(out / "primary.yaml"), "--out", str(out / f"gate-{number}")]
    command += ["--set", "execution.threads=1", "--set", "training.validation_tokens=16384"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1, 3):
        return f"failed: {done.stderr.strip().splitlines()[-1]}"
    record = json.loads(done.stdout.splitlines()[-1])
    print(f"gate {number}: {record['verdicts'][0]['sentence']}", flush=True)
    return str(record["verdict"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=40)
    parser.add_argument("--baseline", default="gpt1")
    parser.add_argument("--out", type=Path, default=Path("runs/placebos"))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "primary.yaml").write_text(RULE, encoding="utf-8")
    with ThreadPoolExecutor(given.processes) as pool:
        words = list(pool.map(lambda number: one_gate(given.baseline, number, given.out), range(given.gates)))
    counts = collections.Counter(words)
    for word, count in counts.most_common():
        low, high = clopper_pearson(count, given.gates)[1:] if word != "UNDECIDED" else (None, None)
        between = "" if low is None else f" ({low:.1%} to {high:.1%})"
        print(f"{word}: {count} of {given.gates}{between}")


if __name__ == "__main__":
    main()
