"""Generates text: samples from a model's logits, decodes token by token through its state, and streams the text.

Shapes: B rows, V vocabulary.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from assay.data.text.tokenizer import Tokenizer
from assay.decoding import Decoder, Tell
from assay.errors import RequestError
from assay.model.lm import LanguageModel
from assay.seeding import derive

REPLACEMENT = "\ufffd"
"""The character that stands for bytes that are not UTF-8, or not yet a complete character."""


@dataclass(frozen=True)
class Sampler:
    """How the next token is chosen: the likeliest at temperature 0, else drawn from softmax(logits / temperature).

    `top_k` keeps the k likeliest tokens (Fan et al. 2018); of these `top_p` keeps the likeliest that together reach
    the probability p (Holtzman et al. 2020, the nucleus). Of equally likely tokens the lower id comes first.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise RequestError(f"--temperature {self.temperature}: a number from 0 (greedy) on is needed; 1 would do")
        if self.top_k is not None and self.top_k < 1:
            raise RequestError(f"--top-k {self.top_k}: at least 1 token must stay; 50 would do")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise RequestError(f"--top-p {self.top_p}: a probability above 0 and up to 1 is needed; 0.9 would do")

    def __str__(self) -> str:
        if self.temperature == 0:
            return "greedy"
        limits = [f", {name} {value}" for name, value in (("top-k", self.top_k), ("top-p", self.top_p)) if value]
        return f"temperature {self.temperature:g}{''.join(limits)}"

    def probabilities(self, logits: Float[Tensor, "B V"]) -> Float64[Tensor, "B V"]:
        """The distribution that tokens are drawn from, on the CPU."""
        logits = logits.cpu().double()
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        scaled = (logits - logits.amax(-1, keepdim=True)) / self.temperature
        ordered, order = scaled.softmax(-1).sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            ordered[:, self.top_k :] = 0
            ordered /= ordered.sum(-1, keepdim=True)
        if self.top_p is not None:
            before = ordered.cumsum(-1) - ordered
            ordered = torch.where(before < self.top_p, ordered, 0)
        return torch.zeros_like(ordered).scatter_(-1, order, ordered / ordered.sum(-1, keepdim=True))

    def choose(self, logits: Float[Tensor, "B V"], uniform: Float64[Tensor, " B"]) -> Int64[Tensor, " B"]:
        """One token per row: where the cumulative sum of its distribution exceeds `uniform`, which is in [0, 1)."""
        if self.temperature == 0:
            return logits.argmax(-1).cpu()
        cumulative = self.probabilities(logits).cumsum(-1)
        cumulative /= cumulative[:, -1:].clone()
        return torch.searchsorted(cumulative, uniform[:, None], right=True)[:, 0]


class Generated(NamedTuple):
    """One `token` for prompt number `row`; `last` if the row ends with it, by count or by an end-of-text token."""

    row: int
    token: int
    last: bool


def room(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> int | None:
    """Tokens that can follow the longest prompt before learned positions run out; None where there is no limit.

    The last token needs no position, as the model does not read it. A prompt that is empty, too long or holds an id
    outside the model's vocabulary is a RequestError.
    """
    for prompt in prompts:
        if not prompt:
            raise RequestError("--prompt: at least one token is needed to start from")
        if not 0 <= min(prompt) <= max(prompt) < model.vocab_size:
            raise RequestError(f"--prompt: its ids reach {max(prompt)}; the model has {model.vocab_size} tokens")
    if model.max_positions is None:
        return None
    longest = max(map(len, prompts))
    if longest > model.max_positions:
        raise RequestError(
            f"--prompt: {longest} tokens given; the model has {model.max_positions} learned positions, so give fewer"
        )
    return model.max_positions - longest + 1


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampler: Sampler = Sampler(),
    seed: int = 0,
    end: int | None = None,
    *,
    compiled: bool = False,
    tell: Tell = lambda _: None,
) -> Iterator[Generated]:
    """Yield up to `max_tokens` tokens for each of `prompts` (ids) as they are chosen; a row stops after `end`.

    Prompts are read in parallel form and then decoded together, one `step` per token, with a state that is allocated
    for all tokens at once; with `compiled` a step is one compiled graph, and `tell` hears where that cannot be (see
    assay.decoding). A row's tokens do not depend on the other rows. Draws depend on the seed and on how often
    the same prompt occurs before, so that a repeated prompt gets other draws. The model is in evaluation mode until the
    iterator ends.
    """
    if max_tokens < 1:
        raise RequestError(f"--max-tokens {max_tokens}: at least 1 is needed")
    fits = room(model, prompts)
    if fits is not None and max_tokens > fits:
        raise RequestError(
            f"--max-tokens {max_tokens}: the model has {model.max_positions} learned positions and the longest prompt "
            f"takes {max(map(len, prompts))}; at most {fits} fit"
        )
    generators = _generators(prompts, seed)
    with _evaluating(model):
        for rows in _groups([len(prompt) for prompt in prompts], max_tokens):
            longest = max(len(prompts[row]) for row in rows)
            decoder = Decoder(model, len(rows), longest + max_tokens - 1, compiled=compiled, tell=tell)
            group = _decode(
                decoder, [prompts[row] for row in rows], max_tokens, sampler, [generators[row] for row in rows], end
            )
            yield from (made._replace(row=rows[made.row]) for made in group)


def _decode(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampler: Sampler,
    generators: Sequence[torch.Generator],
    end: int | None,
) -> Iterator[Generated]:
    """Decode all rows in lock step.

    As many tokens as the shortest prompt has are read at once in every row; the rest of longer prompts is read token by
    token. So all rows are at the same position, nothing is padded, and a row reads exactly its own text.
    """
    device = decoder.model.head_weight.device
    lengths = [len(prompt) for prompt in prompts]
    logits = decoder.start(torch.tensor([prompt[: min(lengths)] for prompt in prompts], device=device))
    running = set(range(len(prompts)))
    for position in range(min(lengths), decoder.capacity + 1):
        writing = [row for row in sorted(running) if position >= lengths[row]]
        feed = [prompt[position] if position < len(prompt) else prompt[-1] for prompt in prompts]
        if writing:
            tokens = _choose(logits[writing], sampler, [generators[row] for row in writing])
            for row, token in zip(writing, tokens, strict=True):
                feed[row] = token
                last = token == end or position - lengths[row] + 1 == max_tokens
                if last:
                    running.remove(row)
                yield Generated(row, token, last)
        if not running:
            return
        logits = decoder.step(torch.tensor(feed, device=device))


def _choose(logits: Tensor, sampler: Sampler, generators: Sequence[torch.Generator]) -> list[int]:
    """One token per row; each row draws from its own generator, and only when its token is used."""
    if not logits.isfinite().all():
        raise RequestError("the model's logits are not finite (did its training diverge?); another run would do")
    uniform = torch.stack([torch.rand((), generator=each, dtype=torch.float64) for each in generators])
    return [int(token) for token in sampler.choose(logits, uniform)]


def _generators(prompts: Sequence[Sequence[int]], seed: int) -> list[torch.Generator]:
    """One generator per prompt, seeded by how often the same prompt occurred before it."""
    seen: Counter[tuple[int, ...]] = Counter()
    generators = []
    for prompt in map(tuple, prompts):
        generators.append(torch.Generator().manual_seed(derive(seed, "generation", seen[prompt])))
        seen[prompt] += 1
    return generators


def _groups(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Batches of rows of similar length; a new one begins where reading the rest of longer prompts would cost more."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if groups and lengths[row] - lengths[groups[-1][0]] <= max_tokens:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


@contextmanager
def _evaluating(model: LanguageModel) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every module is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class TextStream:
    """The text of ids as they are generated. Bytes of an incomplete character are held back until it is complete."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = ""

    def push(self, token: int) -> str:
        """Add a token; return the text that has become certain with it."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        # Only the last character can still change, and only if it is the replacement of incomplete bytes. Text that
        # was shown is never taken back: after a special token, which has no text, a shown replacement is still the last
        # character.
        certain = max(text.removesuffix(REPLACEMENT), self._shown, key=len)
        new = certain[len(self._shown) :]
        self._shown = certain
        if certain == text and (alone := self._tokenizer.decode([token])):
            # One token of context is kept, for tokenizers that drop the space before a text's first word.
            self._ids, self._shown = [token], alone
        return new

    def close(self) -> str:
        """The text held back to the end: a replacement character for bytes that never became a character."""
        return self._tokenizer.decode(self._ids)[len(self._shown) :]
