"""What lies in a folder of results: studies and runs, what each was asked, how far it is, its answer; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from assay.analysis.ranking.verdicts import TWO_SEEDS
from assay.analysis.wording import join_names, short
from assay.config import read_yaml
from assay.errors import RequestError
from assay.records import MeasuredRun, Record, StudyRecord
from assay.report import quantities


class Entry(Record):
    """One study or run."""

    folder: str
    kind: Literal["study", "run", "import"]
    asked: str
    """Arms, seeds, size, corpus and tokens, in words."""
    state: str
    """finished, N of M runs, at work, or why it cannot be read."""
    answer: str
    """The result in one sentence, "" before there is one."""
    arms: list[str] = []
    seeds: list[int] = []


def inventory(folder: Path) -> list[Entry]:
    """The studies and runs in `folder`, by name; `folder` itself where it is one. Runs of a study stand in it."""
    if not folder.is_dir():
        raise RequestError(f"{folder}: no such folder; `assay compare` writes below runs/")
    places = [folder] if (folder / "config.yaml").exists() else sorted(path for path in folder.iterdir())
    return [_entry(place) for place in places if (place / "config.yaml").exists() or (place / "import.json").exists()]


def _entry(place: Path) -> Entry:
    if not (place / "config.yaml").exists():
        return Entry(folder=str(place), kind="import", asked="", state="finished", answer="")
    kind: Literal["study", "run"] = "study"
    try:
        values = read_yaml(place / "config.yaml")
        is_run = (place / "metrics.jsonl").exists() and not (place / "runs").exists()  # version 1 did not say
        is_run = values.get("kind") == "run" if "kind" in values else is_run
        kind = "run" if is_run else "study"
        arms, seeds = _arms(values), [int(seed) for seed in values.get("seeds") or []]
        state, answer = (_of_run if is_run else _of_study)(place, len(arms) * len(seeds))
        asked = _asked(values, arms, seeds)
    except (RequestError, ValueError, TypeError, AttributeError, KeyError) as error:
        return Entry(
            folder=str(place), kind=kind, asked="", state=f"unreadable: {type(error).__name__} {error}", answer=""
        )
    return Entry(folder=str(place), kind=kind, asked=asked, state=state, answer=answer, arms=arms, seeds=seeds)


def _arms(values: Mapping[str, Any]) -> list[str]:
    """Labels, also of version 1, which knew arms by their architecture."""
    arms = values.get("arms") or values.get("architectures") or []
    return [arm if isinstance(arm, str) else str(arm["label"]) for arm in arms]


def _asked(values: Mapping[str, Any], arms: list[str], seeds: list[int]) -> str:
    sizes = values.get("sizes") or ([values["size"]] if values.get("size") else [])
    rates = (values.get("tuning") or {}).get("learning_rates") or []
    parts = [", ".join(arms), f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"]
    parts += [f"{' / '.join(map(short, sizes))} {values.get('match', 'total')}"] if sizes else []
    parts += [f"{len(rates)} learning rates"] if rates else []
    data = values["data"]
    parts += [f"{quantities.count(values['training']['tokens'])} tokens of {data.get('task') or data['corpus']}"]
    return "; ".join(parts)


def _of_study(place: Path, points: int) -> tuple[str, str]:
    """State and answer. `points` counts the runs asked, but for grids, whose runs the folder tells."""
    if (place / "study.json").exists():
        record = StudyRecord.read(place / "study.json")
        concluded = sum(len(arm.seeds) for arm in record.arms)
        there = len(list(place.glob("runs/*/config.yaml")))
        more = f", grows: {there - concluded} runs more" if there > concluded else ""
        return f"finished, {concluded} runs{more}{_at_work(place)}", _answer(record)
    done = len(list(place.glob("runs/*/record.json")))
    return f"{done} of {max(points, len(list(place.glob('runs/*/config.yaml'))))} runs{_at_work(place)}", ""


def _answer(record: StudyRecord) -> str:
    if record.not_ranked_because is not None:
        return f"not ranked: {record.not_ranked_because}"
    first = [arm for arm in record.arms if arm.rank == 1]
    resolved = sum(pair.resolved for pair in record.pairs)
    scores = [f"{arm.label} {arm.scores.nats_per_token.mean:.3f}" for arm in first if arm.scores is not None]
    nominally = " (nominally)" if any(pair.resolved and pair.nominal for pair in record.pairs) else ""
    if resolved and min(pair.n_seeds for pair in record.pairs) == 2:
        nominally += f", {TWO_SEEDS}"
    leads = "leads" if len(scores) == 1 else "lead"
    return f"{join_names(scores)} nats/token {leads}; {resolved} of {len(record.pairs)} pairs resolved{nominally}"


def _of_run(place: Path, _: int) -> tuple[str, str]:
    if not (place / "record.json").exists():
        metrics = place / "metrics.jsonl"
        steps = len(metrics.read_bytes().splitlines()) if metrics.exists() else 0
        return f"step {steps}{_at_work(place)}", ""
    run = MeasuredRun.read(place)
    answer = "" if run.scores is None else f"{run.scores.nats_per_token:.3f} nats/token"
    return run.record.status, answer


def _at_work(place: Path) -> str:
    """Whether a process holds the lock; asking does not take it away."""
    if not (place / ".lock").exists():
        return ""
    try:
        with FileLock(place / ".lock").acquire(timeout=0):
            return ""
    except Timeout:
        return ", at work"
    except OSError:  # a folder that cannot be written
        return ""
