"""Data checks of a run or study: held-out text in training, unequal batches, a tokenizer that saw held-out text."""

from collections.abc import Sequence

from assay.data.config import DataConfig
from assay.data.corpus import Split, Tell, silent
from assay.data.text.prepare import prepare
from assay.data.text.tokenized import TokenizedCorpus
from assay.data.text.tokenizer import build_tokenizer
from assay.errors import RequestError
from assay.evaluation.corpus.containment import CONTAINMENT, Copy, exact_copies, minhash_copies
from assay.records import Finding, RunRecord

EXACT_DOCUMENTS = 100_000
"""With more documents than this copies are looked for by MinHash."""
HELD_OUT: tuple[Split, ...] = ("test", "validation")
MOST_NAMED = 5

_DECODED_AT_ONCE = 1000


def data_findings(data: DataConfig, digest: str | None = None, progress: Tell = silent) -> list[Finding]:
    """Read the corpus of `data` again, from its source or the cache, and check it: contamination and tokenizer.

    `digest` is what the run records of the corpus. Where the corpus cannot be read any more, or is another one by
    now, nothing can be said of the run: both checks are skipped with the reason.
    """
    if data.task is not None:
        return _skipped(f"trained on the task {data.task}, whose splits are drawn from seeds of their own")
    try:
        corpus = prepare(data, progress)
    except RequestError as error:
        return _skipped(f"the corpus cannot be read again: {error}")
    if digest is not None and corpus.digest != digest:
        return _skipped(
            f"the corpus has changed since the run: digest {corpus.digest[:12]} now, {digest[:12]} then "
            "(its text, its tokenizer, or the version of the library that trains it)"
        )
    return corpus_findings(corpus)


def corpus_findings(corpus: TokenizedCorpus, exact_documents: int = EXACT_DOCUMENTS) -> list[Finding]:
    """Check the documents as they were tokenised, decoded again: what was really read, whatever split it."""
    training = _texts(corpus, "train")
    return [_contamination(corpus, training, exact_documents), _tokenizer(corpus, training)]


def chain_finding(records: Sequence[RunRecord]) -> Finding:
    """Whether all arms of a study consumed the same batches: equal hash chains for each seed.

    Runs that diverged stopped early, so that theirs are of another length: they are left out.
    """
    runs = [run for run in records if run.status == "finished"]
    first_of: dict[int, RunRecord] = {}
    unequal = []
    for run in runs:
        first = first_of.setdefault(run.seed, run)
        if run.data_chain != first.data_chain:
            unequal.append(f"seed {run.seed}: {run.label} consumed other batches than {first.label}")
    if len(runs) == len(first_of):
        words = "no seed has two finished runs, so there are no chains to compare"
        return Finding(check="chains", status="skip", explanation=words)
    if unequal:
        return Finding(
            check="chains",
            status="fail",
            measured=len(unequal),
            threshold=0,
            where="; ".join(unequal[:MOST_NAMED]),
            explanation="arms that learned from other text, or in another order, cannot be ranked",
        )
    words = f"{len(runs)} finished runs: the arms of each seed consumed the same batches in the same order"
    return Finding(check="chains", status="pass", measured=0, threshold=0, explanation=words)


def _contamination(corpus: TokenizedCorpus, training: Sequence[str], exact_documents: int) -> Finding:
    """Held-out documents that stand in training documents, or the other way round."""
    held_out = [text for split in HELD_OUT for text in _texts(corpus, split)]
    exact = len(held_out) + len(training) <= exact_documents
    found, largest = (exact_copies if exact else minhash_copies)(held_out, training)
    names = [f"{split} document {name!r}" for split in HELD_OUT for name in corpus.split(split).names]
    how = "exactly" if exact else "by MinHash"
    counted = f"{len(held_out)} held-out and {len(training)} training documents, word 13-grams compared {how}"
    if not found:
        words = f"no held-out document stands in training, and none of training in held-out ones ({counted})"
        return Finding(check="contamination", status="pass", measured=largest, threshold=CONTAINMENT, explanation=words)
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return Finding(
        check="contamination",
        status="fail",
        measured=largest,
        threshold=CONTAINMENT,
        where="; ".join(_told(copy, names, corpus.train.names) for copy in found[:MOST_NAMED]) + more,
        explanation=f"{'1 copy' if len(found) == 1 else f'{len(found)} copies'} of half a document or more ({counted})",
    )


def _told(copy: Copy, held_out: Sequence[str], training: Sequence[str]) -> str:
    a, b = held_out[copy.held_out], f"training document {training[copy.training]!r}"
    if copy.reversed:
        a, b = b, a
    return f"{a}: {copy.share:.0%} of it stands in {b}"


def _tokenizer(corpus: TokenizedCorpus, training: Sequence[str]) -> Finding:
    """Train the tokenizer again on the training split alone: the same must come out."""
    name = corpus.tokenizer.name
    if name == "bytes":
        return Finding(check="tokenizer", status="pass", explanation="bytes are learned from no text")
    if not name.startswith("bpe:"):
        words = f"{name} was made elsewhere: whether its text held this corpus's test cannot be seen from here"
        return Finding(check="tokenizer", status="skip", explanation=words)
    try:
        again = build_tokenizer(name, training).digest
    except RequestError as error:
        again = str(error)
    if again == corpus.tokenizer.digest:
        words = f"{name} trained again on the training split alone is the one that was used"
        return Finding(check="tokenizer", status="pass", explanation=words)
    words = f"{name} trained on the training split alone is another one than was used: it has seen other text"
    return Finding(check="tokenizer", status="fail", where="tokenizer.json", explanation=words)


def _texts(corpus: TokenizedCorpus, split_name: Split) -> list[str]:
    """The documents of a split, decoded, without BOS and EOS."""
    split = corpus.split(split_name)
    bounds = list(zip(split.starts[:-1].tolist(), split.starts[1:].tolist(), strict=True))
    texts: list[str] = []
    for low in range(0, len(bounds), _DECODED_AT_ONCE):
        ids = [split.ids[start + 1 : end - 1].tolist() for start, end in bounds[low : low + _DECODED_AT_ONCE]]
        texts += corpus.tokenizer.decode_batch(ids)
    return texts


def _skipped(reason: str) -> list[Finding]:
    return [Finding(check=check, status="skip", explanation=reason) for check in ("contamination", "tokenizer")]
