"""Causality by gradient: no logit has a derivative with respect to a later token's embedding.

Shapes: N rows, T tokens, D width, V vocabulary.
"""

import torch
from torch import Tensor

from assay.audit.blame.where import placed, trace_over_time
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick
from assay.audit.subject.embedding import AtEmbedding
from assay.audit.subject.subject import RaisedError, Subject, logits_of
from assay.records import Finding

FLOOR = 1e-9
"""Gradients with respect to later embeddings up to this, relative to those of earlier ones, count as zero."""
SHIFT = 1e-3
"""How far an embedding is moved to find the module that lets the gradient through."""


def by_gradient(subject: Subject, search: Search, yardstick: Yardstick) -> Finding:
    """Gradients of random sums of one position's logits, for several positions t: zero from t + 1 on."""
    generator = torch.Generator().manual_seed(search.seed + 3)
    largest, found = 0.0, (torch.zeros(0), 0, 0)
    for length, cuts in gradient_rows(search):
        ids = torch.randint(subject.vocab_size, (len(cuts), length), generator=generator).to(subject.device)
        try:
            parts = [slice(row, row + 1) for row in range(len(cuts))] if subject.alone else [slice(None)]
            rows = [embedding_gradients(subject, ids[part], cuts[part], generator) for part in parts]
        except RaisedError as error:
            return _skip(str(error))
        if any(part is None for part in rows):
            return _skip("no differentiable lookup of the ids was seen")
        sizes = torch.cat([part for part in rows if part is not None])
        for row, cut in enumerate(cuts):
            later, earlier = sizes[row, cut + 1 :], sizes[row, : cut + 1].amax().item()
            ratio = later.amax().item() / earlier if earlier > 0 else float("inf") * bool(later.any())
            if ratio > largest:
                largest, found = ratio, (ids[row], cut, cut + 1 + int(later.argmax()))
    allowed = FLOOR if yardstick.clean else max(FLOOR, 1000 * yardstick.unit)
    if largest <= allowed:
        words = "later embeddings have no gradient"
        return Finding(check="causality", status="pass", measured=largest, threshold=allowed, explanation=words)
    ids, cut, token = found
    words = (
        f"the logits at {cut} have a gradient with respect to the embedding of token {token}, relative to earlier ones"
    )
    finding = Finding(check="causality", status="fail", measured=largest, threshold=allowed, explanation=words)
    return _located(subject, finding, ids[None], token, yardstick)


def gradient_rows(search: Search) -> list[tuple[int, tuple[int, ...]]]:
    """(length, positions whose logits are differentiated in sequences of that length, one row for each)."""
    middle = search.middle
    tried: tuple[int, ...] = (0, 5, 15, 16, middle // 2, 31, 32, middle - 2)
    if search.brief:
        tried = (15,) if search.lean else (5, 15, middle - 2)
    cuts = {t for t in tried if 0 <= t < middle - 1}
    rows = [(middle, tuple(sorted(cuts)))] if cuts else []
    if search.longest > middle and search.gradient_cuts:
        rows.append((search.longest, search.gradient_cuts))
    return rows


def embedding_gradients(
    subject: Subject, ids: Tensor, cuts: tuple[int, ...], generator: torch.Generator
) -> Tensor | None:
    """Norms [N, T], over embeddings, of the gradient of a random sum of row n's logits at position cuts[n].

    None where no lookup of the ids in an embedding table was seen.
    """
    leaves: list[Tensor] = []

    def leaf(vectors: Tensor) -> Tensor:
        leaves.append(vectors.detach().requires_grad_())
        return leaves[-1]

    with subject.running(gradients=True) as model:
        with AtEmbedding(ids, leaf):
            logits = logits_of(model(ids), ids)
        if not leaves or not logits.requires_grad:
            return None
        weights = torch.randn(logits.shape[0], logits.shape[2], generator=generator, dtype=torch.float64)
        picked = logits[torch.arange(len(cuts)), list(cuts)]
        finite = picked.isfinite()
        total = (picked.where(finite, 0.0) * weights.to(picked)).sum()
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    sizes = [g.double().nan_to_num().flatten(2).norm(dim=-1) for g in gradients if g is not None]
    return torch.stack(sizes).amax(0) if sizes else None


def _located(subject: Subject, finding: Finding, ids: Tensor, token: int, yardstick: Yardstick) -> Finding:
    """The module to blame, by moving the embedding of the later token a little."""

    def moved(vectors: Tensor) -> Tensor:
        vectors = vectors.clone()
        vectors[:, token] *= 1 + SHIFT
        return vectors

    def second() -> None:
        with subject.running() as model, AtEmbedding(ids, moved):
            model(ids)

    tracer, blames = trace_over_time(subject, token, yardstick.unit, ids, subject.logits, second)
    return placed(finding, tracer, blames, f"when the embedding of token {token} moves")


def _skip(reason: str) -> Finding:
    return Finding(check="causality", status="skip", explanation=f"gradients were not looked at: {reason}")
