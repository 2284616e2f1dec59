"""What a study's record says of one arm: its scores and measurements over the seeds."""

import hashlib
from collections.abc import Container, Sequence

from assay.analysis.columns import arm_columns
from assay.analysis.ranking.contests import Contest
from assay.analysis.ranking.entrants import Entrant
from assay.analysis.statistics import mean_interval, perplexity_interval
from assay.records import Arm, Likelihood, Results, TestScores


def arm(entrant: Entrant, contest: Contest, level: float, of_study: Results, hidden: Container[str] = ()) -> Arm:
    """The record of `entrant`, an arm of `contest`, with intervals at `level`; `of_study` are results of all arms.

    `hidden` are measurements whose results are not to be put together.
    """
    memory = [run.peak_memory_bytes for run in entrant.runs.values()]
    chains = "".join(run.data_chain for run in entrant.runs.values())
    scores = _scores(list(entrant.scores.values()), level)
    return Arm(
        label=entrant.label,
        architecture=entrant.any.architecture,
        replicate=entrant.any.replicate,
        group=entrant.point.group,
        size=entrant.point.size,
        learning_rate=entrant.point.learning_rate,
        selected=contest.selected.get(entrant.label),
        validation_nats=entrant.validation_nats,
        seeds=list(entrant.runs),
        diverged=entrant.diverged,
        unsound=entrant.unsound,
        rank=contest.rank(entrant),
        parameters=entrant.any.parameters,
        flops_per_token=entrant.any.flops_per_token.forward,
        state_bytes=entrant.any.state_bytes,
        test=scores if entrant.split == "test" else None,
        validation=scores if entrant.split == "validation" else None,
        peak_memory_bytes=max((bytes_ for bytes_ in memory if bytes_ is not None), default=None),
        data_chain=hashlib.sha256(chains.encode()).hexdigest(),
        columns=arm_columns(entrant.label, entrant.results, of_study, level, hidden),
    )


def _scores(of: Sequence[Likelihood], level: float) -> TestScores | None:
    if not of:
        return None
    nats = [scores.nats_per_token for scores in of]
    bits = [scores.bits_per_byte for scores in of if scores.bits_per_byte is not None]
    return TestScores(
        nats_per_token=mean_interval(nats, level),
        perplexity=perplexity_interval(nats, level),
        bits_per_byte=mean_interval(bits, level) if len(bits) == len(of) else None,
    )
