"""Checks an arm beside its baseline by short trainings, before it is trained at a scale; what was begun is finished."""

from collections.abc import Callable, Sequence
from pathlib import Path

from assay.analysis.sanity import SanityLimits, judge_below, judge_overfitting, judge_part
from assay.config import digest_of
from assay.errors import RequestError
from assay.records.sanity import Sanity, SanityFinding, ShortRun
from assay.study.folder import lock
from assay.study.resolve import ResolvedArm, Study
from assay.study.sanity.sprint import few_tokens, floor_nats, run_overfitting, run_part
from assay.training.loop import Observer
from assay.training.version import assay_version

FILE = "sanity.json"


def check(
    study: Study,
    arm: ResolvedArm,
    baseline: ResolvedArm,
    folder: Path,
    tell: Callable[[str], None],
    below: Sanity | None = None,
    limits: SanityLimits | None = None,
    observers: Sequence[Observer] = (),
) -> Sanity:
    """What document 004 asks before a scale: `arm` and `baseline` of `study`, with its first seed, in `folder`.

    Both read 1% of their tokens: losses fall alike, the curve is smooth, gradient norms are of the same order. Both
    learn 1,000 tokens by heart. With `below`, what this function returned for the same arm at the rung below, the arm
    must be better on the same held-out text. Trainings are those of the one loop: the same call continues an
    interrupted one, and a finished one is read. A folder of another request, and a `below` of another text, are a
    RequestError. `observers` hear of every step.
    """
    limits = limits or SanityLimits()
    if arm.label == baseline.label:
        raise RequestError(f"--baseline {arm.label}: is the arm itself; another arm would do")
    if below is not None and below.corpus_digest != study.dataset.digest:
        raise RequestError(
            f"the rung below read other data ({below.corpus_digest[:12]}, here {study.dataset.digest[:12]}), so that "
            "losses cannot be compared; the same text and tokenizer would do"
        )
    asked = _asked(study, arm, baseline, below, limits)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        if (folder / FILE).exists():
            return _stored(folder, asked)
        _refuse_other(folder, asked)
        part = dict[str, ShortRun]()
        by_heart = dict[str, ShortRun]()
        for number, of in enumerate((arm, baseline)):
            tell(f"sanity of {of.label}: a part of the data, and a few tokens by heart")
            place = folder / ("arm" if number == 0 else "baseline")
            part[of.label] = run_part(study, of, place / "part", limits, observers)
            by_heart[of.label] = run_overfitting(study, of, place / "overfitting", limits, observers)
        sanity = Sanity(
            arm=arm.label,
            baseline=baseline.label,
            asked=asked,
            corpus_digest=study.dataset.digest,
            part=part,
            findings=_findings(study, arm, baseline, part, by_heart, below, limits),
        )
        sanity.write(folder / FILE)
        return sanity


def _findings(
    study: Study,
    arm: ResolvedArm,
    baseline: ResolvedArm,
    part: dict[str, ShortRun],
    by_heart: dict[str, ShortRun],
    below: Sanity | None,
    limits: SanityLimits,
) -> list[SanityFinding]:
    batch = few_tokens(study, limits.overfit_tokens)
    found = judge_part(part[arm.label], part[baseline.label], study.dataset.vocab_size, limits)
    found.append(
        judge_overfitting(by_heart[arm.label], by_heart[baseline.label], batch.scored, floor_nats(batch), limits)
    )
    if below is not None:
        found.append(_below(arm.label, part[arm.label], below))
    return found


def _below(label: str, here: ShortRun, below: Sanity) -> SanityFinding:
    there = below.part[below.arm].validation_nats
    if here.validation_nats is None or there is None:
        who = label if here.validation_nats is None else "the rung below"
        name = "better than the rung below"
        return SanityFinding(check=name, status="fail", reason=f"{who} diverged on a part of the data")
    return judge_below(label, [here.validation_nats], [there])


def _asked(study: Study, arm: ResolvedArm, baseline: ResolvedArm, below: Sanity | None, limits: SanityLimits) -> str:
    seed = study.config.seeds[0]
    specs = [study.digest(of, seed) for of in (arm, baseline)]
    return digest_of([*specs, limits.model_dump(mode="json"), None if below is None else below.asked, assay_version()])


def _stored(folder: Path, asked: str) -> Sanity:
    stored = Sanity.read(folder / FILE)
    if stored.asked != asked:
        raise _other(folder)
    return stored


def _refuse_other(folder: Path, asked: str) -> None:
    """Raise a RequestError where trainings of another request were begun; else note which one they are of."""
    path = folder / "asked"
    if path.exists() and path.read_text(encoding="ascii") != asked:
        raise _other(folder)
    path.write_text(asked, encoding="ascii")


def _other(folder: Path) -> RequestError:
    return RequestError(
        f"{folder}: holds sanity checks of another arm, baseline, limits or version of assay; a new folder would do"
    )
