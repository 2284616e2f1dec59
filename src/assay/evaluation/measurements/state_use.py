"""Where a model keeps what it recalls: accuracy after what it carries from context to queries was replaced."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from assay.analysis.intervals.proportions import Share
from assay.analysis.intervals.ratios import ratio_interval
from assay.data.batches import Batch
from assay.data.questions import Floats, Questions
from assay.data.scoring import ScoringWindows
from assay.data.task import TaskDataset, as_windows
from assay.evaluation.interventions import (
    KINDS,
    Site,
    change_of,
    changed,
    of_twin,
    paths_of,
    state_after,
)
from assay.evaluation.measurement import Given, Measurement, register
from assay.model.lm import ModelState
from assay.records import Column, FigurePoint, MeasuredFigure, Record
from assay.seeding import derive
from assay.targets import IGNORED

SEQUENCES = 512
"""At most so many are looked at."""
BATCH = 128
FEWEST = 16
"""Sequences of one length of context; lengths with fewer are left out."""
DRAWN = 4_096
"""Sequences from which the commonest lengths of context are taken, where these differ."""
RECALLS = 0.9
"""Only of a model that is right so often can be said where it keeps what it recalls."""
TWIN = "twin"


class Effect(Record):
    """What is left after one intervention."""

    path: str
    """state, cache or window; `all` of them."""
    block: int | None
    """None is every block."""
    kind: str
    """zero, mean, resample, swap, noise, or twin: the state after a context with other answers to the same queries."""
    accuracy: float
    share: float | None
    """(accuracy - ablated) / (accuracy - floor): what rests on this part; None where it has no interval."""
    low: float | None
    high: float | None
    others: float | None
    """Of twin: how often the answer is the other context's."""
    points: float
    """Accuracy lost, in points of a hundred."""
    points_error: float
    """Its standard error over sequences."""


class StateUse(Record):
    """Interventions between context and queries; none where the model does not recall."""

    accuracy: float
    floor: float
    sequences: int
    answers: int
    left_out: int
    """Of the sequences that were drawn, those with a length of context that few others have."""
    effects: list[Effect]


class Asked(NamedTuple):
    """Sequences of one length of context C, and right answers at the places after it."""

    inputs: np.ndarray
    targets: np.ndarray
    twin_inputs: np.ndarray | None
    twin_targets: np.ndarray | None
    """A sequence that has no twin has no targets there."""
    floor: Floats
    """[N], the mean floor of a sequence's answers."""
    context: int

    def with_twins(self) -> "Asked":
        """The sequences that have a twin."""
        if self.twin_inputs is None or self.twin_targets is None:
            return self._replace(inputs=self.inputs[:0], targets=self.targets[:0], floor=self.floor[:0])
        rows = (self.twin_targets != IGNORED).any(axis=1)
        return Asked(
            self.inputs[rows],
            self.targets[rows],
            self.twin_inputs[rows],
            self.twin_targets[rows],
            self.floor[rows],
            self.context,
        )


class MeasureStateUse(Measurement[StateUse]):
    """The context is read, the state exchanged, and the queries are asked."""

    name = "state_use"
    question = "Where does the model keep what it recalls: in its state, its cache or its window, and in which layer?"
    unit = "share of recall"
    group = "memory"
    needs = frozenset({"trained", "task"})
    record = StateUse
    version = 2

    def measure(self, given: Given, readers: Sequence[object]) -> StateUse:
        assert given.task is not None
        windows = given.held_out
        questions = given.task.questions(windows)
        if questions is None or questions.context is None:
            return StateUse(accuracy=0.0, floor=0.0, sequences=0, answers=0, left_out=0, effects=[])
        if len(np.unique(questions.context)) > 1:
            windows = given.task.sequences(given.split, windows.inputs.shape[1], DRAWN)
            questions = given.task.questions(windows)
            assert questions is not None
        groups = list(_groups(given.task, windows, questions))
        trial = _Trial(given)
        right = np.concatenate([trial.right(group, None) for group in groups]) if groups else np.zeros((0, 2))
        used = sum(len(group.inputs) for group in groups)
        accuracy = float(right[:, 0].sum() / right[:, 1].sum()) if used else 0.0
        floor = float(np.concatenate([group.floor for group in groups]).mean()) if used else 0.0
        return StateUse(
            accuracy=accuracy,
            floor=floor,
            sequences=used,
            answers=int(right[:, 1].sum()),
            left_out=0 if used == SEQUENCES else len(windows.inputs) - used,
            effects=list(trial.effects(groups)) if used and accuracy >= RECALLS else [],
        )

    def columns(self, values: StateUse) -> list[Column]:
        best = {effect.path: effect for effect in values.effects if effect.block is None and effect.kind == "swap"}
        twin = next((e for e in values.effects if e.kind == TWIN and e.path == "all" and e.block is None), None)
        columns = [Column(key="recall", head="recall", format="percent", value=values.accuracy, better="higher")]
        for path in ("state", "cache", "window"):
            effect = best.get(path)
            columns.append(
                Column(
                    key=path,
                    head="recall in",
                    second=path,
                    format="percent",
                    value=None if effect is None else effect.share,
                    low=None if effect is None else effect.low,
                    high=None if effect is None else effect.high,
                )
            )
        other = None if twin is None else twin.others
        columns.append(Column(key="others", head="answers of", second="another state", format="percent", value=other))
        return columns

    def figures(self, values: StateUse) -> list[MeasuredFigure]:
        by_block = [effect for effect in values.effects if effect.block is not None and effect.share is not None]
        if len({effect.block for effect in by_block}) < 2:
            return []
        return [
            MeasuredFigure(
                name="state_use",
                title="Recall that rests on each block's state",
                caption="The share of the recall above its floor that is lost where one block carries the state of "
                "another sequence. Shares need not add up to 1: blocks may hold the same twice, or need each other.",
                kind="lines",
                x_title="block",
                x_called="block",
                x_names={str(effect.block): str(effect.block) for effect in by_block},
                y_title="share of recall",
                unit="share",
                points=[FigurePoint(x=float(e.block or 0), y=e.share or 0.0) for e in by_block],
            )
        ]

    def sentences(self, values: StateUse) -> list[str]:
        if not values.sequences:
            return ["The task does not say where its context ends, so that no state can be exchanged there."]
        if not values.effects:
            return [
                f"It recalls {values.accuracy:.1%}, under {RECALLS:.0%}: where it keeps what it recalls cannot be said."
            ]
        whole = [effect for effect in values.effects if effect.block is None]
        lines = [_sentence(effect) for effect in whole if effect.kind == "swap" and effect.share is not None]
        lines += [
            f"With the state of a context that has other answers it gives those in {effect.others:.1%}, its own in "
            f"{effect.accuracy:.1%}."
            for effect in whole
            if effect.kind == TWIN and effect.path == "all"
        ]
        lines += [_of_document_001(effect) for effect in whole if (effect.kind, effect.path) == ("zero", "state")]
        if values.left_out:
            lines.append(f"{values.left_out} sequences of rare lengths were left out.")
        return lines


def _sentence(effect: Effect) -> str:
    what = "everything that it carries" if effect.path == "all" else f"its {effect.path}"
    return (
        f"{what} exchanged for that of another sequence: {effect.share:.0%} of the recall is gone "
        f"({effect.low:.0%} to {effect.high:.0%})."
    ).capitalize()


def _of_document_001(effect: Effect) -> str:
    """Its own ablation, by its own threshold of 15 points, with the error that it did not give."""
    low, high = (effect.points + sign * 1.96 * effect.points_error for sign in (-1, 1))
    verdict = "yes" if low > 15 else "no" if high < 15 else "not resolved"
    return (
        f"The ablation of document 001 (a research note on GroundThink v7; state set to zero) loses "
        f"{effect.points:.1f} points, standard error {effect.points_error:.1f}; more than 15, its sign of use: "
        f"{verdict}."
    )


class _Trial:
    """One model that is asked after each intervention."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.model = given.trained
        self.plan = given.plan
        self.whole = given.task is not None and given.task.answers_are_whole

    def right(self, group: Asked, site: Site | None, kind: str = "", twins: bool = False) -> np.ndarray:
        """[N, 2 or 3] right answers of each sequence, its answers, and with `twins` the answers of its twin."""
        found = [
            self._batch(group, slice(low, low + BATCH), site, kind, twins) for low in range(0, len(group.inputs), BATCH)
        ]
        return np.concatenate(found)

    @torch.no_grad()
    def _batch(self, group: Asked, rows: slice, site: Site | None, kind: str, twins: bool) -> np.ndarray:
        training = self.model.training
        self.model.eval()
        try:
            with self.plan.autocast():
                ids, targets = group.inputs[rows], group.targets[rows]
                state = self._state(group, rows, self._ids(ids[:, : group.context]), site, kind)
                columns = [*self._right(ids, targets, group.context, state).T]
                if twins:
                    assert group.twin_inputs is not None
                    assert group.twin_targets is not None
                    read = group.twin_inputs[rows] if self.whole else ids  # its answer is read too, token by token
                    columns.append(self._right(read, group.twin_targets[rows], group.context, state)[:, 0])
        finally:
            self.model.train(training)
        return np.stack(columns, axis=1)

    def _right(self, ids: np.ndarray, targets: np.ndarray, context: int, state: ModelState) -> np.ndarray:
        """[N, 2] right answers of each sequence and its answers; one of several tokens is right where all are."""
        hidden, _ = self.model.hidden(self._ids(ids[:, context:]), state)
        targets = targets[:, context:]
        n, t = np.nonzero(targets != IGNORED)
        places = [torch.from_numpy(index).to(hidden.device) for index in (n, t)]
        said = self.model.head(hidden[places[0], places[1]]).argmax(dim=-1).cpu().numpy()
        right, asked = _per_row(said == targets[n, t], n, len(targets)), _per_row(np.ones(len(n)), n, len(targets))
        if self.whole:
            right, asked = (right == asked).astype(np.float64), np.ones(len(targets))
        return np.stack([right, asked], axis=1)

    def _ids(self, ids: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(ids).to(self.plan.device)

    def _state(self, group: Asked, rows: slice, context: torch.Tensor, site: Site | None, kind: str) -> ModelState:
        state = state_after(self.model, context)
        if site is None:
            return state
        if kind == TWIN:
            assert group.twin_inputs is not None
            other = self._ids(group.twin_inputs[rows, : group.context])
            return changed(state, site, of_twin, state_after(self.model, other))
        generator = torch.Generator().manual_seed(derive(0, f"state_use {kind}", rows.start))
        return changed(state, site, change_of(kind, generator))  # type: ignore[arg-type]

    def effects(self, groups: Sequence[Asked]) -> Iterator[Effect]:
        """Every path by itself and all of them in every way; each block's by that of another sequence."""
        first = groups[0]
        with torch.no_grad(), self.plan.autocast():
            state = state_after(self.model, self._ids(first.inputs[:1, : first.context]))
        sites = [*map(Site, paths_of(state)), Site()]
        base = np.concatenate([self.right(group, None) for group in groups])
        floor = np.concatenate([group.floor for group in groups])
        twins = [of for group in groups if len((of := group.with_twins()).inputs)]
        own = np.concatenate([self.right(of, None) for of in twins]) if twins else base[:0]
        own_floor = np.concatenate([of.floor for of in twins]) if twins else floor[:0]
        for site in sites:
            for kind in KINDS:
                yield self._effect(groups, site, kind, base, floor)
            if twins:
                yield self._effect(twins, site, TWIN, own, own_floor)
        for block in range(len(state.blocks)):
            yield self._effect(groups, Site(None, block), "swap", base, floor)

    def _effect(self, groups: Sequence[Asked], site: Site, kind: str, base: np.ndarray, floor: Floats) -> Effect:
        twins = kind == TWIN
        after = np.concatenate([self.right(group, site, kind, twins) for group in groups])
        own, left = base[:, 0] / base[:, 1], after[:, 0] / after[:, 1]
        share: Share | None = ratio_interval((own - left).tolist(), (own - floor).tolist())
        lost = 100 * (own - left)
        return Effect(
            path=site.path or "all",
            block=site.block,
            kind=kind,
            accuracy=float(after[:, 0].sum() / after[:, 1].sum()),
            share=None if share is None else share.mean,
            low=None if share is None else share.low,
            high=None if share is None else share.high,
            others=float(after[:, 2].sum() / after[:, 1].sum()) if twins else None,
            points=float(lost.mean()),
            points_error=float(lost.std(ddof=1) / np.sqrt(len(lost))),
        )


def _per_row(values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(rows, weights=values.astype(np.float64), minlength=n)


def _groups(task: TaskDataset, windows: ScoringWindows, questions: Questions) -> Iterator[Asked]:
    """Sequences with one length of context together, the commonest lengths first, if there are enough of one."""
    assert questions.context is not None
    asked = windows.targets != IGNORED
    floors = np.where(asked, np.maximum(questions.uniform, questions.bag), 0).sum(axis=1) / asked.sum(axis=1)
    lengths, counts = np.unique(questions.context, return_counts=True)
    left = SEQUENCES
    for context in lengths[np.argsort(-counts, kind="stable")]:
        rows = np.flatnonzero(questions.context == context)[:left]
        if len(rows) < FEWEST or (asked[rows, :context]).any():
            continue
        left -= len(rows)
        own = as_windows([Batch(windows.inputs[rows], windows.targets[rows])])
        twins = task.twins(own)
        yield Asked(
            own.inputs,
            own.targets,
            None if twins is None else twins.inputs,
            None if twins is None else twins.targets,
            floors[rows],
            int(context),
        )


register(MeasureStateUse())
