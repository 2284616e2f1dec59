"""The full audit: every check, on the weights as given and on redrawn ones, in eval and training mode, in seconds."""

from collections.abc import Callable, Sequence

from torch import nn

from assay.audit.checks.accounting import accounting
from assay.audit.checks.activations import activations
from assay.audit.checks.initialisation import initial_entropy, initialisation
from assay.audit.checks.own_type import own_type
from assay.audit.comparisons import compared
from assay.audit.probing.fitted import fitted
from assay.audit.probing.probes import CONTENTS
from assay.audit.probing.search import Search, cost_of, lighter, plan_search, widths_of
from assay.audit.report import DECIDING, AuditReport, Searched, merged, told, unsearched
from assay.audit.scoring.check import Score, scoring
from assay.audit.side_by_side import Tell
from assay.audit.subject.borrowing import borrowed
from assay.audit.subject.chunks import chunks_make_no_difference, restore_chunks
from assay.audit.subject.limits import calls_per_token, integer, pads
from assay.audit.subject.second_weights import add_redrawn
from assay.audit.subject.subject import Decode, Subject
from assay.errors import RequestError
from assay.records import Finding

LONGEST, THOROUGH_LONGEST = 320, 2048
MOST = 2**62
"""The largest seed allowed: the audit derives others by adding to it, and torch's limit is 2^63 - 1."""


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
    tell("how it is called, and on which lengths")
    with borrowed(
        model, vocab_size, special_ids, max_length, longest, lengths=lengths, shorter=not thorough
    ) as subject:
        if packing is not None:
            packing = integer("packing", packing, 0, subject.vocab_size - 1)
        subject.decode = decode
        search = _planned(subject, thorough, seed)
        add_redrawn(subject, seed)
        subject.use("redrawn")
        if subject.chunks and not chunks_make_no_difference(subject):
            restore_chunks(subject)
            search = _planned(subject, thorough, seed)
        subject.use("given")

        def once() -> list[Finding]:
            return _once(subject, search, fresh, loss, log_prob)

        findings = compared(subject, {"given": lighter(search), "redrawn": search}, packing, once, tell)
        if all(finding.check != "causality" or finding.status != "fail" for finding in findings):
            tell("causality, in the model's own type")
            findings += own_type(subject, search)
        return report_on(subject, search, findings)


def _planned(subject: Subject, thorough: bool, seed: int) -> Search:
    cost, widths = cost_of(subject.model, calls_per_token(subject)), widths_of(subject.model)
    return fitted(plan_search(subject.longest, cost, thorough, seed, widths, pads(subject)), subject.takes)


def _once(subject: Subject, search: Search, fresh: bool, loss: Score | None, log_prob: Score | None) -> list[Finding]:
    """The checks that are made only on the weights as given."""
    checks: list[Callable[[Subject, Search], Finding]] = [activations, accounting]
    if fresh:
        checks += [initialisation, initial_entropy]
    findings = [scoring(subject, search, loss, log_prob)]
    for check in checks:
        subject.memory.restore()
        findings.append(check(subject, search))
    return findings


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
