"""Scoring: the loss is that of the next token, and the probabilities it implies for all V candidates sum to one.

Shapes: B rows, T tokens, V vocabulary, W width of the logits.
"""

import math

import torch
from torch import Tensor

from assay.audit.probing.search import Search
from assay.audit.scoring.bench import CLOSE, MANY_TOKENS, Bench
from assay.audit.scoring.candidates import examined
from assay.audit.scoring.judging import Verdict
from assay.audit.scoring.readings import Reading, cross_entropy, readings
from assay.audit.scoring.scorers import Score as Score
from assay.audit.scoring.scorers import ScoreError, scorer_of
from assay.audit.scoring.trials import SIZES, long_row, trials
from assay.audit.subject.differences import change, spread
from assay.audit.subject.limits import padding_id
from assay.audit.subject.subject import Subject
from assay.errors import RequestError
from assay.records import Finding, Status

PLAIN = 1e-2
"""A change of logits, relative to their spread, that is certainly more than rounding."""
FEW_IDS = 512
"""Up to this vocabulary all candidates are tried after many tokens, too."""
DEARER = "costs more than the cross-entropy of the logits, never less: a term is added, and it is no score"
LARGE_WORDS = " (where logits are large)"


def scoring(subject: Subject, search: Search, loss: Score | None = None, log_prob: Score | None = None) -> Finding:
    """Compare the score with cross-entropies of the logits, on many kinds of ids and sizes of logits.

    Which token is scored (the next one?) and over which ids the softmax goes is found out. Where the score is no
    cross-entropy of the logits, its probabilities are summed over all candidates for a place.
    """
    scorer = scorer_of(subject, loss, log_prob)
    generator = torch.Generator().manual_seed(search.seed + 9)
    ids = torch.randint(subject.vocab_size, (2, subject.takes.fit(min(search.content, 16))), generator=generator).to(
        subject.device
    )
    logits = subject.logits(ids, dropout=False).double()
    norm = logits[..., : subject.vocab_size].logsumexp(-1)
    if not bool(norm.isfinite().all()):
        words = f"nothing can be scored: {int((~norm.isfinite()).sum())} of {norm.numel()} positions tried have logits"
        words += " that are NaN or infinite"
        return Finding(check="scoring", status="warn" if scorer is None else "fail", explanation=words)
    outside = 1 - math.exp((norm - logits.logsumexp(-1)).amin().item())
    if scorer is None:
        words = "no `loss` or `log_prob` is given or known"
        if outside > CLOSE:
            words += (
                f"; a softmax over all {subject.outputs} logits puts {outside:.2g} on ids from {subject.vocab_size} on"
            )
        return Finding(check="scoring", status="warn" if outside > CLOSE else "skip", explanation=words)
    if ids.shape[1] < 4:
        return Finding(check="scoring", status="skip", explanation="too few tokens to tell which one is scored")
    if _reads_ahead(subject, ids, logits):
        words = f"{scorer.name} was not compared with the logits: they change with later tokens, which it may leave out"
        return Finding(check="scoring", status="skip", explanation=words)
    try:
        return _Comparison(Bench(subject, scorer), search, outside).finding()
    except ScoreError as error:
        if not scorer.known:
            raise RequestError(f"{scorer.name}: {error}") from error
        return Finding(check="scoring", status="warn", explanation=f"{scorer.name} cannot be checked: it {error}")


def _reads_ahead(subject: Subject, ids: Tensor, logits: Tensor) -> bool:
    """Whether a prefix of `ids` [B, T] alone plainly gives other logits: a leak, which other checks report."""
    less = subject.takes.fit(ids.shape[1] - ids.shape[1] // 2)
    if less >= ids.shape[1]:
        return False
    alone = subject.logits(ids[:, :less], dropout=False)
    return change(logits[:, :less], alone).amax().item() > PLAIN * spread(logits)


def _is_dearer(nats: Tensor, logits: Tensor, ids: Tensor) -> bool:
    """Whether a loss costs no less than the cross-entropy, as one with another term added, such as a router's."""
    expected = cross_entropy(logits, ids)
    mean, total = expected.mean().item(), expected.sum().item()
    given = nats.mean().item()
    return mean * (1 - CLOSE) <= given < 2 * mean or given >= max(total * (1 - CLOSE), 2 * mean)


class _Comparison:
    """Compares one score with the logits, trial by trial.

    `agreed` holds the readings (kinds of cross-entropy) that fit all trials so far, None before the first; `others` the
    verdicts of trials that fit none, `raised` the errors of the score.
    """

    def __init__(self, bench: Bench, search: Search, outside: float) -> None:
        self.bench = bench
        self.search = search
        self.outside = outside
        if bench.subject.vocab_size <= FEW_IDS and (bench.scorer.on_logits or not search.brief):
            bench.tokens = MANY_TOKENS
        self.agreed: set[Reading] | None = None
        self.others: list[Verdict] = []
        self.raised: list[str] = []
        self.dearer: Verdict | None = None
        """The verdict on the model's own loss where it is no distribution, but so far never below the cross-entropy."""

    def finding(self) -> Finding:
        """The finding of all trials; the first that fails decides."""
        # For a large model's own loss two sizes of logits are enough: clamping is a fault of losses from outside.
        for size in SIZES[:2] if self.search.brief and self.bench.scorer.known else SIZES:
            with self.bench.sized(size):
                examined_before = len(self.others)
                for ids in trials(self.bench, self.search, size):
                    once = len(self.others) == examined_before and len(self.others) < 2
                    verdict = self._tried(ids, once)
                    if verdict is not None:
                        words = verdict.words if size is None else verdict.words + LARGE_WORDS
                        return self._said("fail", words, verdict.off)
                    shifts = {reading.shift for reading in self.agreed or ()}
                    if shifts and 1 not in shifts:
                        return self._shifted(min(shifts))
        return self._concluded()

    def _shifted(self, shift: int) -> Finding:
        """The finding where another token than the next is scored.

        Only a warning for decoders of the library transformers that leave shifting their labels to the caller.
        """
        words = f"{self._name} scores {_which(shift)}, not the next one"
        theirs = type(self.bench.subject.model).__module__.partition(".")[0] == "transformers"
        if self.bench.scorer.known and theirs and shift == 0:
            return self._said("warn", f"{words}: labels are to be shifted before")
        return self._said("fail", words)

    def _tried(self, ids: Tensor, examine: bool) -> Verdict | None:
        """Run one trial; return the verdict if it fails, else None (and note what was found)."""
        try:
            nats = self.bench.nats(ids)
        except ScoreError as error:
            if self.agreed is None:
                raise
            self.raised.append(str(error))
            return None
        logits = self.bench.logits(ids)
        if not bool(logits[..., : self.bench.subject.vocab_size].logsumexp(-1).isfinite().all()):
            return None
        if self.agreed is None:
            self.bench.each = nats.ndim == 2
            self.bench.settle(ids)
        widths = (self.bench.subject.vocab_size, self.bench.subject.outputs)
        found = readings(nats, logits, ids, widths, self.bench.slack)
        if self.dearer is not None and not found and not _is_dearer(nats, logits[..., : widths[0]], ids):
            return self.dearer
        both = found if self.agreed is None else found & self.agreed
        if both or (self.agreed is not None and not self.agreed and not examine):
            self.agreed = both or self.agreed
            return None
        known = min(self.agreed, key=lambda reading: reading.reduction).reduction if self.agreed else None
        self.agreed = self.agreed or set()
        verdict = examined(self.bench, ids, known, long_row(self.bench, self.search))
        if verdict.sound is False:
            told = "" if known else self._divided(nats, logits, ids)
            if self.bench.scorer.of_labels and not told and _is_dearer(nats, logits[..., : widths[0]], ids):
                self.dearer = verdict
                words = f"{self._name} {DEARER}"
                self.others.append(Verdict(None, words))
                return None
            return Verdict(False, told or verdict.words, verdict.off)
        self.others.append(verdict)
        return None

    def _divided(self, nats: Tensor, logits: Tensor, ids: Tensor) -> str:
        """In words, if the score is the cross-entropy divided by another number than that of tokens; else empty."""
        if nats.ndim or not nats.isfinite() or nats == 0:
            return ""
        expected = cross_entropy(logits[..., : self.bench.subject.vocab_size], ids)
        count = (expected.sum() / nats).item()
        if math.isclose(count, expected.numel() * math.log(2), rel_tol=CLOSE):
            return f"{self._name} is in bits, not in nats: its candidates do not sum to 1"
        if count > 1.5 and math.isclose(count, round(count), rel_tol=CLOSE):
            words = f"{self._name} divides the nats of {expected.numel()} tokens by {round(count)}"
            return f"{words}: its candidates do not sum to 1"
        return ""

    def _concluded(self) -> Finding:
        unknown = [verdict for verdict in self.others if verdict.sound is None]
        if unknown:
            return self._said("warn", unknown[0].words)
        if self.raised:
            return self._said("warn", f"{self._name} could not be checked everywhere: it {self.raised[0]}")
        ignored = self._padding_ignored()
        if ignored:
            return self._said("warn", ignored)
        if self.others:
            return self._said("pass", self.others[0].words, self.others[0].off)
        return self._matched()

    def _matched(self) -> Finding:
        """The finding where the score is a cross-entropy on all trials; ids past the vocabulary must have no share."""
        assert self.agreed
        if len({reading.shift for reading in self.agreed}) > 1:
            return self._said("warn", f"{self._name}: the logits are too much alike to tell which token is scored")
        width = min(reading.width for reading in self.agreed)
        off = self.outside if width > self.bench.subject.vocab_size else 0.0
        words = f"{self._name} is the cross-entropy of the next token; its candidates sum to {1 - off:.9g}"
        if off > CLOSE:
            words += f": ids from {self.bench.subject.vocab_size} to {width - 1} take the rest"
        return self._said("fail" if off > CLOSE else "pass", words, off)

    def _padding_ignored(self) -> str:
        """In words, if the id declared as padding does not cost its cross-entropy; else an empty string."""
        pad = padding_id(self.bench.subject)
        if pad is None or self.others:
            return ""
        ids = next(trials(self.bench, self.search, None)).clone()
        ids[:, -1] = pad
        try:
            nats = self.bench.nats(ids)
        except ScoreError as error:
            return f"{self._name} {error} with id {pad} among them, which is declared as padding"
        widths = (self.bench.subject.vocab_size, self.bench.subject.outputs)
        if readings(nats, self.bench.logits(ids), ids, widths, self.bench.slack) & (self.agreed or set()):
            return ""
        return f"{self._name} counts id {pad}, declared as padding, as nothing: it must never be a real token"

    @property
    def _name(self) -> str:
        return self.bench.scorer.name

    def _said(self, status: Status, words: str, off: float | None = None) -> Finding:
        return Finding(
            check="scoring",
            status=status,
            measured=off,
            threshold=None if off is None else self.bench.slack,
            where=self._name if status == "fail" else None,
            explanation=words,
        )


def _which(shift: int) -> str:
    return "the token that the model has just read" if shift == 0 else "the token after the next"
