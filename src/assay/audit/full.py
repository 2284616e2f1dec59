"""The full audit: every check, on the weights as given and on redrawn ones, in eval and training mode, in seconds."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import nn

from assay.audit.checks.accounting import accounting
from assay.audit.checks.activations import activations
from assay.audit.checks.calls import calls
from assay.audit.checks.causality import causality
from assay.audit.checks.dead_parameters import dead_parameters
from assay.audit.checks.determinism import determinism
from assay.audit.checks.initialisation import initial_entropy, initialisation
from assay.audit.checks.labels import labels
from assay.audit.checks.length import length
from assay.audit.checks.modes import modes
from assay.audit.checks.near_calls import near_calls
from assay.audit.checks.own_type import own_type
from assay.audit.checks.packing import packing as packed
from assay.audit.checks.parity import parity
from assay.audit.checks.rows import rows
from assay.audit.probing.fitted import fitted
from assay.audit.probing.probes import CONTENTS
from assay.audit.probing.search import Search, cost_of, lighter, plan_search, widths_of
from assay.audit.probing.yardstick import Yardstick, yardstick
from assay.audit.report import DECIDING, SKIPPED, AuditReport, Searched, merged, told, unsearched
from assay.audit.scoring.check import Score, scoring
from assay.audit.subject.borrowing import borrowed
from assay.audit.subject.chunks import chunks_make_no_difference, restore_chunks
from assay.audit.subject.draws import held, patterned
from assay.audit.subject.limits import calls_per_token, integer, pads
from assay.audit.subject.second_weights import add_redrawn
from assay.audit.subject.subject import Decode, RaisedError, Subject
from assay.errors import RequestError
from assay.plugins.blame import blamed
from assay.records import Finding

LONGEST, THOROUGH_LONGEST = 320, 2048
MOST = 2**62
"""The largest seed allowed: the audit derives others by adding to it, and torch's limit is 2^63 - 1."""

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
    lengths: int | Sequence[int] | None = None,
    thorough: bool = False,
    fresh: bool = False,
    packing: int | None = None,
    decode: Decode | None = None,
    seed: int = 0,
    on_progress: Tell | None = None,
) -> AuditReport:
    """Look for every way in which a language model could cheat; `model` maps ids [B, T] to logits [B, T, V].

    The logits may come alone, first in a tuple, or as `logits` of an object. `vocab_size` is found where it is not
    given. `loss(model, ids)` or `loss(logits, ids)` gives nats (a mean, a sum, or one for each later token), `log_prob`
    the log probability [B, T - 1] of each later token: with one of them scoring is checked. `special_ids` are tried
    besides 0, 1, V - 1, bos, eos and pad. `max_length` is the most tokens that the model takes, `lengths` are the only
    numbers of tokens to call it with; both are found by trying where they are not given. `thorough` searches up to 2048
    tokens, ten times as many in all, which takes minutes. `fresh` says that the weights have not been trained.
    `packing` is the id of the separator between documents packed into one row, where the model claims that they do not
    see each other. `decode(model, ids, state)` is how the model decodes, where it follows no known habit: ids [B, T] go
    on from the state, None at first; it returns logits [B, T, V], or those of the last tokens, and the state after.

    The model is left as it was. A RequestError of one line where it takes no ids, gives no logits, or raises.
    """
    tell = on_progress or (lambda _: None)
    longest = THOROUGH_LONGEST if thorough else LONGEST
    seed = integer("seed", seed, 0, MOST)
    if on_progress is not None and not callable(on_progress):
        raise RequestError(f"on_progress: a {type(on_progress).__name__} given; a function of one text would do")
    if decode is not None and not callable(decode):
        raise RequestError(f"decode: a {type(decode).__name__} given; a function of model, ids and state would do")
    with borrowed(
        model, vocab_size, special_ids, max_length, longest, lengths=lengths, shorter=not thorough
    ) as subject:
        if packing is not None:
            packing = integer("packing", packing, 0, subject.vocab_size - 1)
        subject.decode = decode
        search = _planned(subject, thorough, seed)
        findings = _once(subject, search, fresh, loss, log_prob, tell)
        add_redrawn(subject, seed)
        subject.use("redrawn")
        if subject.chunks and not chunks_make_no_difference(subject):
            restore_chunks(subject)
            search = _planned(subject, thorough, seed)
        findings += on_both_weights(subject, {"given": lighter(search), "redrawn": search}, packing, tell)
        tell("dead parameters")
        subject.use("redrawn")
        findings.append(dead_parameters(subject, search))
        if all(finding.check != "causality" or finding.status != "fail" for finding in findings):
            tell("causality, in the model's own type")
            findings += own_type(subject, search)
        return report_on(subject, search, findings)


def _planned(subject: Subject, thorough: bool, seed: int) -> Search:
    cost, widths = cost_of(subject.model, calls_per_token(subject)), widths_of(subject.model)
    return fitted(plan_search(subject.longest, cost, thorough, seed, widths, pads(subject)), subject.takes)


def _once(
    subject: Subject, search: Search, fresh: bool, loss: Score | None, log_prob: Score | None, tell: Tell
) -> list[Finding]:
    """The checks that are made only on the weights as given."""
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

    Isolation is checked first, in all of these settings. Where it fails in any, the other checks restore the model's
    memory before each run, or run one row at a time, so that they do not mistake a leak between calls or rows for one
    from later tokens.
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
        if sticks[weights].finite
        and not (training and weights == "given" and searches[weights].brief)
        and (subject.trains or not training)
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
    subject: Subject, search: Search, stick: Yardstick, training: bool, known: set[str]
) -> Iterator[Finding]:
    """The checks along the sequence, without those in `known`, whose answer is known already.

    A check that failed on these weights in eval mode is not repeated in training mode, and parity is checked on one set
    of weights only.
    """
    if "causality" not in known:
        yield _without_chance(subject, training, lambda: causality(subject, search, stick, training), over_time=True)
    if "length" not in known and not (training and search.brief):
        yield _looked("length", lambda: length(subject, search, stick, training))
    yield from labels(subject, search, stick, training)
    if training:
        yield _looked("modes", lambda: modes(subject, stick))
    elif "parity" not in known:
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


def report_on(
    subject: Subject,
    search: Search,
    findings: list[Finding],
    weights: tuple[str, ...] = ("given", "redrawn"),
    modes: tuple[str, ...] = ("eval", "training"),
) -> AuditReport:
    """The report: the worst finding of each check, and what was searched."""
    answered = dict.fromkeys(finding.check for finding in findings)
    names = [
        *(check for check in DECIDING if check in answered),
        *(check for check in answered if check not in DECIDING),
    ]
    found = [merged([f for f in findings if f.check == name]) for name in names]
    return AuditReport(
        model=subject.name,
        sound=all(finding.status != "fail" for finding in found if finding.check in DECIDING),
        findings=tuple(told(finding, subject.name, search.lengths) for finding in found),
        searched=Searched(
            longest=search.longest,
            lengths=search.lengths,
            takes="" if subject.takes.every else subject.takes.in_words(),
            called=subject.callings[False].in_words(),
            unsearched=unsearched(found, findings, subject.unsearched),
            modes=modes if subject.trains else modes[:1],
            weights=weights,
            contents=CONTENTS,
            arithmetic=subject.arithmetic(),
            vocab_size=subject.vocab_size,
            special_ids=subject.special_ids,
        ),
    )
