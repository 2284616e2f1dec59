"""Every comparison of two runs that an audit makes, on both sets of weights, in both modes, as two parts at a time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from assay.audit.checks.activations import activations
from assay.audit.checks.calls import calls
from assay.audit.checks.causality import causality
from assay.audit.checks.dead_parameters import dead_parameters
from assay.audit.checks.determinism import determinism
from assay.audit.checks.labels import labels
from assay.audit.checks.length import length
from assay.audit.checks.modes import modes
from assay.audit.checks.near_calls import near_calls
from assay.audit.checks.packing import packing as packed
from assay.audit.checks.parity import parity
from assay.audit.checks.rows import rows
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick, yardstick
from assay.audit.report import SKIPPED
from assay.audit.side_by_side import Tell, side_by_side
from assay.audit.subject.draws import held, patterned
from assay.audit.subject.subject import RaisedError, Subject
from assay.plugins.blame import blamed
from assay.records import Finding

WEIGHTS = {"given": "weights as given", "redrawn": "weights redrawn"}
MODES = ("eval mode", "training mode")

OVER_TIME = frozenset({"causality", "length", "labels", "modes", "parity"})
SLOWEST = frozenset({"causality", "modes"})
"""Those that take as long on redrawn weights as all the others on both; modes needs what causality ran."""


def compared(
    subject: Subject,
    searches: Mapping[str, Search],
    packing: int | None,
    once: Callable[[], list[Finding]],
    tell: Tell,
) -> list[Finding]:
    """What is asked `once`, and every comparison of two runs, on both sets of weights, in both modes.

    Isolation is checked first, in all of these settings. Where it fails in any, the other checks restore the model's
    memory before each run, or run one row at a time, so that they do not mistake a leak between calls or rows for one
    from later tokens. Each of the two steps is two parts that take about the same time (see side_by_side.py).
    """
    tell("rounding")
    sticks = {}
    for weights in WEIGHTS:
        subject.use(weights)
        sticks[weights] = yardstick(subject, searches[weights])
    if not sticks["given"].finite:
        subject.use("given")
        where = activations(subject, searches["given"]).where
        words = "no logit is finite on the weights as given, and nothing can be told from them"
        return [*once(), Finding(check="determinism", status="fail", where=where, explanation=words)]
    runs = _Runs(subject, searches, sticks, packing)

    def first(tell: Tell) -> list[Finding]:
        tell("scoring, activations, accounting")
        subject.use("given")
        return [*once(), *runs.isolation("given", tell)]

    def second(tell: Tell) -> list[Finding]:
        findings = runs.over_time("given", OVER_TIME, tell)
        findings += runs.over_time("redrawn", OVER_TIME - SLOWEST, tell)
        tell("dead parameters")
        subject.use("redrawn")
        return [*findings, dead_parameters(subject, searches["redrawn"])]

    findings = side_by_side(subject, first, partial(runs.isolation, "redrawn"), tell)
    return findings + side_by_side(subject, second, partial(runs.over_time, "redrawn", SLOWEST), tell)


@dataclass(frozen=True)
class _Runs:
    """The comparisons of two runs on either set of weights, in every mode in which they are looked at."""

    subject: Subject
    searches: Mapping[str, Search]
    sticks: Mapping[str, Yardstick]
    packing: int | None

    def isolation(self, weights: str, tell: Tell) -> list[Finding]:
        """Determinism, and isolation between calls and rows."""
        findings: list[Finding] = []
        for training in self._modes(weights):
            tell(f"isolation, {WEIGHTS[weights]}, {MODES[training]}")
            self.subject.use(weights)
            found = _isolation(self.subject, self.searches[weights], self.sticks[weights], self.packing, training)
            findings += (_labelled(finding, weights, training) for finding in found)
        return findings

    def over_time(self, weights: str, checks: frozenset[str], tell: Tell) -> list[Finding]:
        """Those of `checks` that look along the sequence; what failed in eval mode is not repeated in training mode.

        Parity is checked on one set of weights only.
        """
        checks -= {"parity"} if weights == "given" and self.sticks["redrawn"].finite else set()
        findings: list[Finding] = []
        for training in self._modes(weights):
            tell(f"{', '.join(sorted(checks))}, {WEIGHTS[weights]}, {MODES[training]}")
            self.subject.use(weights)
            search, stick = self.searches[weights], self.sticks[weights]
            for finding in _over_time(self.subject, search, stick, training, checks):
                findings.append(_labelled(finding, weights, training))
                checks -= {finding.check} if finding.status == "fail" else set()
        return findings

    def _modes(self, weights: str) -> list[bool]:
        """Whether in training mode, for each mode; none where no logit is finite."""
        if not self.sticks[weights].finite:
            return []
        trains = self.subject.trains and not (weights == "given" and self.searches[weights].brief)
        return [False, True] if trains else [False]


def _isolation(
    subject: Subject, search: Search, stick: Yardstick, packing: int | None, training: bool
) -> Iterator[Finding]:
    if not training and not (search.brief and subject.weights == "redrawn"):
        yield _looked("determinism", lambda: determinism(subject, search, stick))
    apart = True
    if not (search.brief and subject.weights == "given"):
        between_calls = _looked(
            "isolation", lambda: _without_chance(subject, training, lambda: calls(subject, search, stick, training))
        )
        subject.restores |= between_calls.status == "fail"
        apart = between_calls.status == "pass"
        yield between_calls
    between_rows = _looked(
        "isolation", lambda: _without_chance(subject, training, lambda: rows(subject, search, stick, training))
    )
    subject.alone |= between_rows.status == "fail"
    yield between_rows
    if subject.weights == "redrawn" and apart and between_rows.status == "pass":
        between_near = _looked(
            "isolation",
            lambda: _without_chance(subject, training, lambda: near_calls(subject, search, stick, training)),
        )
        subject.restores |= between_near.status == "fail"
        yield between_near
    if packing is not None and not training:
        yield _looked("isolation", lambda: packed(subject, search, stick, packing))


def _over_time(
    subject: Subject, search: Search, stick: Yardstick, training: bool, checks: frozenset[str]
) -> Iterator[Finding]:
    """Those of `checks` that look along the sequence in this mode."""
    if "causality" in checks:
        yield _without_chance(subject, training, lambda: causality(subject, search, stick, training), over_time=True)
    if "length" in checks and not (training and search.brief):
        yield _looked("length", lambda: length(subject, search, stick, training))
    if "labels" in checks:
        yield from labels(subject, search, stick, training)
    if training and "modes" in checks:
        yield _looked("modes", lambda: modes(subject, stick))
    if not training and "parity" in checks:
        yield _looked("parity", lambda: parity(subject, search, stick))


def _looked(check: str, look: Callable[[], Finding]) -> Finding:
    """The answer of a check; where the model raises, a skip that says so, and the other checks go on."""
    try:
        return look()
    except RaisedError as error:
        why = blamed(error) or f"the model raised {error}"
        return Finding(check=check, status="skip", explanation=f"{SKIPPED}{why}")


def _without_chance(subject: Subject, training: bool, check: Callable[[], Finding], over_time: bool = False) -> Finding:
    """The answer of `check`; where the model draws at random, a failure counts only if it stays with fixed draws.

    Changed tokens may change how many numbers a layer draws, and so every number drawn after these, which is no leak.
    The check is therefore repeated with fixed draws: for checks along the sequence (`over_time`) the n-th number is the
    same in every call, and rows run alone; for checks between rows or calls all numbers are equal.
    """
    found = check()
    if found.status != "fail" or not subject.draws(training):
        return found
    alone, subject.alone = subject.alone, subject.alone or over_time
    subject.steady = patterned if over_time else held
    try:
        return check()
    finally:
        subject.steady, subject.alone = None, alone


def _labelled(finding: Finding, weights: str, training: bool) -> Finding:
    """The finding; a failure or warning also says on which weights and in which mode it was found."""
    if finding.status in ("pass", "skip"):
        return finding
    words = f"{finding.explanation} ({WEIGHTS[weights]}, {MODES[training]})"
    return finding.model_copy(update={"explanation": words})
