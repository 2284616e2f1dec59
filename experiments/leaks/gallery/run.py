"""What the audit finds: it is run on every model of the tests' gallery of leaks (a mutant and its sound twin each), and
on the zoo, models that look suspicious and are sound.

Run it in a checkout with `.venv/bin/python experiments/leaks/gallery/run.py`; the models are the tests' own.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from assay.audit import audit

TESTS = Path(__file__).resolve().parents[3] / "tests"
SEED = 7


class Case(NamedTuple):
    """A model to audit; `check` is the one that must not pass it, None where it is sound."""

    name: str
    kind: str
    check: str | None
    make: Callable[[int], nn.Module]
    options: Mapping[str, Any]


def cases(scale: str) -> list[Case]:
    """The models of gallery and zoo; at scale "tiny" the first few of each."""
    sys.path.insert(0, str(TESTS))
    from gallery import GALLERY
    from gallery_calls import CALLS, DECODERS
    from sound_zoo import SOUND_ZOO

    count = None if scale == "full" else 2
    mutants, sound = [*GALLERY, *CALLS, *DECODERS][:count], SOUND_ZOO[:count]
    return [
        *(Case(m.name, "mutant", m.check, m.make, m.options) for m in mutants),
        *(Case(m.name, "twin", None, m.twin, m.twin_options) for m in mutants),
        *(Case(s.name, "sound", None, s.make, s.options) for s in sound),
    ]


def answer(case: Case, longest: int | None) -> dict[str, Any]:
    """What the audit says of one model, and whether it is right: a mutant must not pass, a sound model not fail."""
    started = time.process_time()
    limits = {} if longest is None else {"max_length": longest}
    report = audit(case.make(SEED), **{**limits, **case.options})
    named = {finding.check: finding for finding in report.findings if finding.status in ("fail", "warn")}
    right = report.sound if case.check is None else case.check in named
    found = named.get(case.check or "")
    return {
        "name": case.name,
        "kind": case.kind,
        "check": case.check,
        "right": right,
        "sound": report.sound,
        "where": found.where if found else None,
        "summary": report.summary(),
        "processor_seconds": round(time.process_time() - started, 2),
    }


def show(answers: list[dict[str, Any]]) -> None:
    """Print one line per kind of model, and one for every wrong answer."""
    table = Table(box=None)
    for column in ("", "models", "right", "processor s, median", "largest"):
        table.add_column(column, justify="left" if not column else "right")
    for kind in dict.fromkeys(each["kind"] for each in answers):
        mine = [each for each in answers if each["kind"] == kind]
        seconds = sorted(each["processor_seconds"] for each in mine)
        right = sum(each["right"] for each in mine)
        table.add_row(kind, str(len(mine)), str(right), f"{seconds[len(seconds) // 2]:.1f}", f"{seconds[-1]:.1f}")
    console = Console(highlight=False)
    console.print(table)
    for each in (each for each in answers if not each["right"]):
        console.print(f"WRONG {each['kind']} {each['name']}: {each['summary']}", markup=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="a file for every answer, one JSON object a line")
    parser.add_argument("--scale", choices=["tiny", "full"], default="full", help="tiny: seconds, and no result")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    longest = None if options.scale == "full" else 24
    quiet = Console(stderr=True)
    answers = [answer(case, longest) for case in track(cases(options.scale), "audit", console=quiet, transient=True)]
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("".join(json.dumps(each) + "\n" for each in answers))
    if options.json:
        print(json.dumps({"answers": answers, "right": all(each["right"] for each in answers)}))
    else:
        show(answers)
    return 0 if all(each["right"] for each in answers) else 1


if __name__ == "__main__":
    sys.exit(main())
