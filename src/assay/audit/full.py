"""The audit: every check on the weights as given and on a redrawn copy, in both modes, in seconds."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import nn

from assay.audit.checks.accounting import accounting
from assay.audit.checks.activations import activations
from assay.audit.checks.calls import calls
from assay.audit.checks.causality import causality
from assay.audit.checks.dead_parameters import dead_parameters
from assay.audit.checks.determinism import determinism
from assay.audit.checks.initialisation import initial_entropy, initialisation
from assay.audit.checks.length import length
from assay.audit.checks.modes import modes
from assay.audit.checks.own_type import own_type
from assay.audit.checks.packing import packing as packed
from assay.audit.checks.parity import parity
from assay.audit.checks.rows import rows
from assay.audit.probing.probes import CONTENTS
from assay.audit.probing.search import Search, cost_of, lighter, plan_search, widths_of
from assay.audit.probing.yardstick import Yardstick, yardstick
from assay.audit.report import DECIDING, AuditReport, Searched, worst
from assay.audit.scoring.check import Score, scoring
from assay.audit.subject.borrowing import borrowed
from assay.audit.subject.draws import held, patterned
from assay.audit.subject.limits import calls_per_token, integer
from assay.audit.subject.second_weights import add_redrawn
from assay.audit.subject.subject import Subject
from assay.errors import RequestError
from assay.records import Finding

LONGEST, THOROUGH_LONGEST = 320, 2048
MOST = 2**62
"""The largest seed: others are made by adding to it."""

WEIGHTS = {"given": "weights as given", "redrawn": "weights redrawn"}
MODES = ("eval mode", "training mode")

Tell = Callable[[str], None]


def audit(
    model: nn.Module,
    vocab_size: int | None = None,
    *,
    loss: Score | None = None,
    log_prob: Score | None = None,
    special_ids: Sequence[int] = (),
    max_length: int | None = None,
    thorough: bool = False,
    fresh: bool = False,
    packing: int | None = None,
    seed: int = 0,
    on_progress: Tell | None = None,
) -> AuditReport:
    """Look for every way in which a language model could cheat; `model` maps ids [B, T] to logits [B, T, V].

    The logits may come alone, first in a tuple, or under `logits`. `vocab_size` is found where it is not given.
    `loss(model, ids)` or `loss(logits, ids)` gives nats (a mean, a sum, or one for each later token), `log_prob` the
    log probability [B, T - 1] of each later token: with one of them scoring is checked. `special_ids` are tried
    besides 0, 1, V - 1, bos, eos and pad. `max_length` is the most tokens that the model takes. `thorough` searches
    up to 2048 tokens and at every multiple of 16. `fresh` says that the weights have not been trained. `packing` is the
    id that parts documents of one row that must not see each other.

    The model comes back as it was. A RequestError of one line where it takes no ids, gives no logits, or raises.
    """
    tell = on_progress or (lambda _: None)
    longest = THOROUGH_LONGEST if thorough else LONGEST
    seed = integer("seed", seed, 0, MOST)
    if on_progress is not None and not callable(on_progress):
        raise RequestError(f"on_progress: a {type(on_progress).__name__} given; a function of one text would do")
    with borrowed(model, vocab_size, special_ids, max_length, longest) as subject:
        if packing is not None:
            packing = integer("packing", packing, 0, subject.vocab_size - 1)
        cost, widths = cost_of(subject.model, calls_per_token(subject)), widths_of(subject.model)
        search = plan_search(subject.longest, cost, thorough, seed, subject.multiple, widths)
        findings = _once(subject, search, fresh, loss, log_prob, tell)
        add_redrawn(subject, seed)
        light = search if thorough else lighter(search)
        findings += on_both_weights(subject, {"given": light, "redrawn": search}, packing, tell)
        tell("dead parameters")
        subject.use("redrawn")
        findings.append(dead_parameters(subject, search))
        if all(finding.check != "causality" or finding.status != "fail" for finding in findings):
            tell("causality, in the model's own type")
            findings += own_type(subject, search)
        return report_on(subject, search, findings)


def _once(
    subject: Subject, search: Search, fresh: bool, loss: Score | None, log_prob: Score | None, tell: Tell
) -> list[Finding]:
    """What is asked of the weights as given alone."""
    tell("scoring, activations, accounting")
    checks: list[Callable[[Subject, Search], Finding]] = [activations, accounting]
    if fresh:
        checks += [initialisation, initial_entropy]
    findings = [scoring(subject, search, loss, log_prob)]
    for check in checks:
        subject.memory.restore()
        findings.append(check(subject, search))
    return findings


def on_both_weights(subject: Subject, searches: Mapping[str, Search], packing: int | None, tell: Tell) -> list[Finding]:
    """Every comparison of two runs, on both sets of weights, in both modes.

    Isolation everywhere first: where it fails anywhere, the other checks put memory back before each run, or run one
    row at a time, so that a leak between rows is not taken for one over time.
    """
    sticks = {}
    for weights in WEIGHTS:
        subject.use(weights)
        sticks[weights] = yardstick(subject, searches[weights])
    if not sticks["given"].finite:
        subject.use("given")
        where = activations(subject, searches["given"]).where
        words = "no logit is finite on the weights as given, and nothing can be told from them"
        return [Finding(check="determinism", status="fail", where=where, explanation=words)]
    settings = [
        (weights, training)
        for weights in WEIGHTS
        for training in (False, True)
        if sticks[weights].finite and not (training and weights == "given" and searches[weights].brief)
    ]
    findings: list[Finding] = []
    for weights, training in settings:
        tell(f"isolation, {WEIGHTS[weights]}, {MODES[training]}")
        subject.use(weights)
        found = _isolation(subject, searches[weights], sticks[weights], packing, training)
        findings += (_labelled(finding, weights, training) for finding in found)
    failed: set[tuple[str, str]] = set()
    for weights, training in settings:
        tell(f"causality, {WEIGHTS[weights]}, {MODES[training]}")
        subject.use(weights)
        known = {check for check, where in failed if where == weights}
        known |= {"parity"} if weights == "given" and sticks["redrawn"].finite else set()
        for finding in _over_time(subject, searches[weights], sticks[weights], training, known):
            findings.append(_labelled(finding, weights, training))
            failed |= {(finding.check, weights)} if finding.status == "fail" else set()
    return findings


def _isolation(
    subject: Subject, search: Search, stick: Yardstick, packing: int | None, training: bool
) -> Iterator[Finding]:
    if not training and not (search.brief and subject.weights == "redrawn"):
        yield determinism(subject, search, stick)
    if not (search.brief and subject.weights == "given"):
        between_calls = _without_chance(subject, training, lambda: calls(subject, search, stick, training))
        subject.restores |= between_calls.status == "fail"
        yield between_calls
    between_rows = _without_chance(subject, training, lambda: rows(subject, search, stick, training))
    subject.alone |= between_rows.status == "fail"
    yield between_rows
    if packing is not None and not training:
        yield packed(subject, search, stick, packing)


def _over_time(
    subject: Subject, search: Search, stick: Yardstick, training: bool, known: set[str]
) -> Iterator[Finding]:
    """What these weights are known to fail in eval mode is not asked again in training mode; decoding fails once."""
    if "causality" not in known:
        yield _without_chance(subject, training, lambda: causality(subject, search, stick, training), over_time=True)
    if "length" not in known and not (training and search.brief):
        yield length(subject, search, stick, training)
    if training:
        yield modes(subject, stick)
    elif "parity" not in known:
        yield parity(subject, search, stick)


def _without_chance(subject: Subject, training: bool, check: Callable[[], Finding], over_time: bool = False) -> Finding:
    """The answer of `check`; a failure in a mode that draws at random counts if it stays with steady draws.

    Other tokens may ask for other numbers of draws, which moves all that are drawn after them: over time each call
    draws the same pattern, and a row is alone; between rows every draw is the same.
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
    """With the weights and the mode in which something was found."""
    if finding.status in ("pass", "skip"):
        return finding
    words = f"{finding.explanation} ({WEIGHTS[weights]}, {MODES[training]})"
    return finding.model_copy(update={"explanation": words})


def report_on(
    subject: Subject,
    search: Search,
    findings: list[Finding],
    weights: tuple[str, ...] = ("given", "redrawn"),
    modes: tuple[str, ...] = ("eval", "training"),
) -> AuditReport:
    """The gravest answer to each check, and where was searched."""
    answered = dict.fromkeys(finding.check for finding in findings)
    names = [
        *(check for check in DECIDING if check in answered),
        *(check for check in answered if check not in DECIDING),
    ]
    merged = [worst([f for f in findings if f.check == name]) for name in names]
    return AuditReport(
        model=subject.name,
        sound=all(finding.status != "fail" for finding in merged if finding.check in DECIDING),
        findings=tuple(merged),
        searched=Searched(
            longest=search.longest,
            lengths=search.lengths,
            modes=modes,
            weights=weights,
            contents=CONTENTS,
            arithmetic=subject.arithmetic(),
            vocab_size=subject.vocab_size,
            special_ids=subject.special_ids,
        ),
    )
