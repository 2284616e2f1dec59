"""What was added to a study after its results had been looked at, and which verdicts rest on that."""

from collections.abc import Collection, Sequence

from assay.analysis.wording import join_names
from assay.records import Addition


def said(added: Sequence[Addition]) -> list[str]:
    """One line for every addition after a look."""
    return [_line(addition) for addition in added if addition.looks and _parts(addition, addition.measurements)]


def rests_on(added: Sequence[Addition], names: Collection[str], seeds: Collection[int]) -> str | None:
    """What was added after a look among the arms `names` and the `seeds` of a pair, or None.

    `names` are the two arms and all points among which they were chosen: a choice among more points rests on them too.
    """
    texts = []
    for addition in added:
        touched = Addition(
            when=addition.when,
            looks=addition.looks,
            arms=[arm for arm in addition.arms if arm in names],
            seeds=[seed for seed in addition.seeds if seed in seeds],
        )
        parts = _parts(touched)
        if addition.looks and parts:
            were = "was" if len(touched.arms) + len(touched.seeds) == 1 else "were"
            texts.append(f"{join_names(parts)} {were} added {_after(addition)}")
    return "; ".join(texts) or None


def _line(addition: Addition) -> str:
    parts = _parts(addition, addition.measurements)
    what = join_names(parts)
    start = f"{what[0].upper()}{what[1:]} {_after(addition)} ({addition.when[:10]})"
    things = len(addition.arms) + len(addition.seeds) + len(addition.measurements)
    them = "it" if things == 1 else "them"
    if not addition.arms and not addition.seeds:
        return f"{start}: no verdict rests on {them}."
    return f"{start}: looking and adding is a choice, so verdicts that rest on {them} are nominal."


def _parts(addition: Addition, measurements: Sequence[str] = ()) -> list[str]:
    seeds = [str(seed) for seed in addition.seeds]
    named = [f"seed{'s' * (len(seeds) > 1)} {join_names(seeds)}"] if seeds else []
    measured = [f"measurement{'s' * (len(measurements) > 1)} {join_names(measurements)}"] if measurements else []
    arms = [f"arm{'s' * (len(addition.arms) > 1)} {join_names(addition.arms)}"] if addition.arms else []
    return [*arms, *named, *measured]


def _after(addition: Addition) -> str:
    return "after the first look" if addition.looks == 1 else f"after {addition.looks} looks"
