"""From the records of runs to the record of a study: arms over seeds, whether they may be ranked, what was resolved."""

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay.analysis.headline import headline, join_names
from assay.analysis.pairs import compare_pairs
from assay.analysis.statistics import mean_interval, perplexity_interval
from assay.errors import RequestError
from assay.records import Arm, ArmAudit, Floor, Likelihood, Match, RunRecord, SignalProfile, StudyRecord, TestScores

MATCH_TOLERANCE = 0.01
MATCHED: dict[Match, tuple[str, Callable[[RunRecord], int]]] = {
    "total": ("parameters (total)", lambda run: run.parameters.total),
    "non-embedding": ("non-embedding parameters", lambda run: run.parameters.non_embedding),
    "flops": ("FLOPs per token", lambda run: run.flops_per_token.forward),
    "state": ("bytes of state", lambda run: run.state_bytes),
}
"""How each is called, and where it stands in a record."""


@dataclasses.dataclass(frozen=True)
class _Entrant:
    """The runs of one architecture, by seed."""

    name: str
    runs: Mapping[int, RunRecord]

    @property
    def any(self) -> RunRecord:
        return next(iter(self.runs.values()))

    @property
    def finished(self) -> list[RunRecord]:
        """Runs with scores; one that ends with nats that are not finite has diverged, whatever its status says."""
        return [run for run in self.runs.values() if run.test and math.isfinite(run.test.nats_per_token)]

    @property
    def diverged(self) -> int:
        return len(self.runs) - len(self.finished)

    @property
    def tests(self) -> dict[int, Likelihood]:
        return {run.seed: run.test for run in self.finished if run.test is not None}

    @property
    def mean_nats(self) -> float:
        return statistics.fmean(test.nats_per_token for test in self.tests.values())


def compare_runs(
    runs: list[RunRecord],
    protocol: dict[str, Any],
    corpus: dict[str, Any],
    floors: dict[str, Floor],
    environment: dict[str, str],
    match: Match | None,
    audits: Sequence[ArmAudit] = (),
) -> StudyRecord:
    """Turn the runs of a study into its record.

    `protocol["body"]` is "native" or "common". `match` names what the arms were made equal in; None says
    that sizes were given by hand, and ranking then needs totals within 1%. An arm of which one of the `audits` says
    that it is unsound is shown and not ranked. Records that do not belong together
    (corpus, tokens, test documents, one architecture at two sizes, a seed twice) are a RequestError.
    """
    _refuse_strangers(runs)
    unsound = {audit.architecture: audit.summary for audit in reversed(audits) if not audit.sound}
    entrants = _entrants(runs)
    matched_within = _largest_deviation([_matched(entrant, match) for entrant in entrants])
    chains = _chain_differences(entrants)
    reason = _why_not_ranked(entrants, chains, matched_within, match, unsound)
    ranked = reason is None
    whole = [entrant for entrant in entrants if not entrant.diverged and entrant.name not in unsound]
    others = [entrant for entrant in entrants if entrant not in whole]
    if ranked:
        whole.sort(key=lambda entrant: entrant.mean_nats)
    pairs = compare_pairs({entrant.name: entrant.tests for entrant in whole}, ranked)
    arms = [_arm(entrant, _rank(entrant, whole) if ranked else None, None) for entrant in whole]
    arms += [_arm(entrant, None, unsound.get(entrant.name)) for entrant in others]
    broken = {entrant.name: sum(run.chain_broken is not None for run in entrant.runs.values()) for entrant in entrants}
    tokens_per_parameter = max(run.tokens for run in runs) / statistics.fmean(arm.parameters.total for arm in arms)
    return StudyRecord(
        headline=headline(arms, pairs, floors, reason, tokens_per_parameter, protocol["body"], broken, audits),
        ranked=ranked,
        not_ranked_because=reason,
        protocol=protocol,
        arms=arms,
        audits=list(audits),
        pairs=pairs,
        floors=floors,
        tokens_per_parameter=tokens_per_parameter,
        chains_equal=not chains,
        matched_within=matched_within,
        corpus=corpus,
        environment=environment,
        report=None,
    )


def _refuse_strangers(runs: Sequence[RunRecord]) -> None:
    """Raise a RequestError where the runs cannot be of one study."""
    if not runs:
        raise RequestError("a study needs at least one run; none given")
    seen: dict[tuple[str, int], RunRecord] = {}
    first_of: dict[str, RunRecord] = {}
    finished = [run for run in runs if run.status == "finished"]
    for run in runs:
        name = f"{run.architecture} with seed {run.seed}"
        if (run.architecture, run.seed) in seen:
            raise RequestError(f"{name} is there twice; give every run once")
        seen[run.architecture, run.seed] = run
        if run.corpus_digest != runs[0].corpus_digest:
            raise RequestError(f"{name} was trained on another corpus than {runs[0].architecture}; compare on one")
        if run.status == "diverged":
            continue
        if run.test is None:
            raise RequestError(f"{name} has no test scores; finish the run first")
        if run.tokens != finished[0].tokens:
            other = f"{finished[0].tokens:,} of {finished[0].architecture}"
            raise RequestError(f"{name} was trained on {run.tokens:,} tokens, not {other}; compare at one number")
        if finished[0].test is not None and run.test.document_tokens != finished[0].test.document_tokens:
            raise RequestError(f"{name} was scored on other test documents than {finished[0].architecture}")
    for run in runs:
        first = first_of.setdefault(run.architecture, run)
        if (run.parameters, run.flops_per_token, run.state_bytes) != (
            first.parameters,
            first.flops_per_token,
            first.state_bytes,
        ):
            raise RequestError(f"{run.architecture} has one size with seed {first.seed}, another with {run.seed}")


def _entrants(runs: Sequence[RunRecord]) -> list[_Entrant]:
    by_name: dict[str, dict[int, RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_name.setdefault(run.architecture, {})[run.seed] = run
    return [_Entrant(name, by_name[name]) for name in dict.fromkeys(run.architecture for run in runs)]


def _matched(entrant: _Entrant, match: Match | None) -> int:
    return MATCHED[match or "total"][1](entrant.any)


def _largest_deviation(values: Sequence[float]) -> float:
    """The largest |value - mean| / mean."""
    mean = statistics.fmean(values)
    return max(abs(value - mean) for value in values) / mean


def _chain_differences(entrants: Sequence[_Entrant]) -> list[str]:
    """Sentences that say where two finished runs of one seed consumed other batches; a diverged run stopped early."""
    sentences = []
    for seed in sorted({run.seed for entrant in entrants for run in entrant.finished}):
        groups: dict[str, list[str]] = {}
        for entrant in entrants:
            if seed in entrant.tests:
                groups.setdefault(entrant.runs[seed].data_chain, []).append(entrant.name)
        if len(groups) > 1:
            largest = max(groups.values(), key=len)
            others = [name for names in groups.values() if names is not largest for name in names]
            sentences.append(f"with seed {seed}, {join_names(others)} saw other batches than {join_names(largest)}")
    return sentences


def _why_not_ranked(
    entrants: Sequence[_Entrant],
    chains: Sequence[str],
    matched_within: float,
    match: Match | None,
    unsound: Mapping[str, str],
) -> str | None:
    """Why no arm gets a rank, or None."""
    if chains:
        return "; ".join(chains)
    first = entrants[0]
    for entrant in entrants[1:]:
        if entrant.runs.keys() != first.runs.keys():
            return (
                f"{entrant.name} ran with seeds {_listed(entrant.runs)}, {first.name} with seeds {_listed(first.runs)}"
            )
    if matched_within > MATCH_TOLERANCE:
        what = MATCHED[match or "total"][0]
        sizes = ", ".join(f"{entrant.name} {_matched(entrant, match):,}" for entrant in entrants)
        by_hand = "sizes were given by hand and " if match is None else ""
        return f"{by_hand}{what} lie up to {matched_within:.1%} from their mean, where 1% is allowed: {sizes}"
    if all(entrant.diverged for entrant in entrants):
        return "every arm has a diverged seed"
    if all(entrant.diverged or entrant.name in unsound for entrant in entrants):
        return "no arm is sound" if len(unsound) == len(entrants) else "every sound arm has a diverged seed"
    return None


def _rank(entrant: _Entrant, whole: Sequence[_Entrant]) -> int:
    """1 + the number of arms with fewer nats; equal arms share a rank."""
    return 1 + sum(other.mean_nats < entrant.mean_nats for other in whole)


def _arm(entrant: _Entrant, rank: int | None, unsound: str | None) -> Arm:
    runs = entrant.finished or list(entrant.runs.values())
    memory = [run.peak_memory_bytes for run in entrant.runs.values()]
    profiles = [run.signals_trained for run in entrant.finished if run.signals_trained is not None]
    chains = "".join(run.data_chain for run in entrant.runs.values())
    return Arm(
        architecture=entrant.name,
        seeds=list(entrant.runs),
        diverged=entrant.diverged,
        unsound=unsound,
        rank=rank,
        parameters=entrant.any.parameters,
        flops_per_token=entrant.any.flops_per_token.forward,
        state_bytes=entrant.any.state_bytes,
        test=_scores(list(entrant.tests.values())),
        train_tokens_per_second=statistics.median(run.train_tokens_per_second for run in runs),
        peak_memory_bytes=None if None in memory else max(bytes_ for bytes_ in memory if bytes_ is not None),
        data_chain=hashlib.sha256(chains.encode()).hexdigest(),
        growth_with_embedding=_mean([profile.growth_with_embedding for profile in profiles]),
        growth_without_embedding=_mean([profile.growth_without_embedding for profile in profiles]),
        signal_verdict=_signal_verdict(profiles),
        output_verdict=_output_verdict(entrant.finished),
    )


def _scores(tests: Sequence[Likelihood]) -> TestScores | None:
    if not tests:
        return None
    nats = [test.nats_per_token for test in tests]
    bits = [test.bits_per_byte for test in tests if test.bits_per_byte is not None]
    return TestScores(
        nats_per_token=mean_interval(nats),
        perplexity=perplexity_interval(nats),
        bits_per_byte=mean_interval(bits) if len(bits) == len(tests) else None,
    )


def _signal_verdict(profiles: Sequence[SignalProfile]) -> str | None:
    growth = _mean([profile.growth_without_embedding for profile in profiles])
    if growth is None:
        return None
    return "AMPLIFIER" if growth > 1.5 else "DAMPER" if growth < 0.5 else "NEUTRAL"


def _output_verdict(runs: Sequence[RunRecord]) -> str | None:
    verdicts = [run.output_health.verdict for run in runs if run.output_health is not None]
    if not verdicts:
        return None
    wrong = verdicts.count("OVERCONFIDENT")
    return (
        "HEALTHY"
        if not wrong
        else "OVERCONFIDENT"
        if wrong == len(verdicts)
        else f"OVERCONFIDENT {wrong}/{len(verdicts)}"
    )


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite and len(finite) == len(values) else None


def _listed(seeds: Mapping[int, RunRecord]) -> str:
    return ", ".join(map(str, seeds))
