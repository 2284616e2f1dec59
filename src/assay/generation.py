"""Text from a model: sampling from its logits, decoding token by token through its state, text as it comes.

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
from assay.errors import RequestError
from assay.model.lm import LanguageModel
from assay.seeding import derive

REPLACEMENT = "\ufffd"
"""What stands for bytes that are no UTF-8, or not yet."""


@dataclass(frozen=True)
class Sampler:
    """How the next token is chosen: the likeliest at temperature 0, else drawn from softmax(logits / temperature).

    `top_k` keeps the k likeliest tokens (Fan et al. 2018); of these `top_p` keeps the likeliest that together reach
    the probability p (Holtzman et al. 2020, the nucleus). Between equals the lower id comes first.
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
        """One token a row, the inverse of the distribution's cumulative sum at `uniform` in [0, 1)."""
        if self.temperature == 0:
            return logits.argmax(-1).cpu()
        cumulative = self.probabilities(logits).cumsum(-1)
        cumulative /= cumulative[:, -1:].clone()
        return torch.searchsorted(cumulative, uniform[:, None], right=True)[:, 0]


class Generated(NamedTuple):
    """Token `token` of prompt number `row`; `last` where it is the row's last, by its count or as it ends the text."""

    row: int
    token: int
    last: bool


def room(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> int | None:
    """Tokens that can follow the longest prompt before learned positions run out; None where there is no limit.

    The last token needs no position, as nothing is read after it. A prompt that is empty, too long or holds an id
    that the model has not is a RequestError.
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
) -> Iterator[Generated]:
    """Yield up to `max_tokens` tokens for each of `prompts` (ids) as they are chosen; a row stops after `end`.

    Prompts are read in parallel form, then decoded together, one `step` a token, from a state that has room for all:
    nothing grows. A row's tokens do not depend on the other rows. Draws come from (seed, how often the same prompt
    stands before), so that a prompt repeated is drawn anew. The model is in evaluation mode until the iterator ends.
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
            group = _decode(
                model, [prompts[row] for row in rows], max_tokens, sampler, [generators[row] for row in rows], end
            )
            yield from (made._replace(row=rows[made.row]) for made in group)


def _decode(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    sampler: Sampler,
    generators: Sequence[torch.Generator],
    end: int | None,
) -> Iterator[Generated]:
    """All rows in lock step: what the prompts have in length is read at once, the rest of longer ones token by token.

    So every row stands at the same position, nothing is padded, and what a row reads is exactly its own text.
    """
    device = model.head_weight.device
    lengths = [len(prompt) for prompt in prompts]
    capacity = max(lengths) + max_tokens - 1
    read = torch.tensor([prompt[: min(lengths)] for prompt in prompts], device=device)
    hidden, state = model.hidden(read, model.initial_state(len(prompts), capacity))
    logits = model.head(hidden[:, -1])
    running = set(range(len(prompts)))
    for position in range(min(lengths), capacity + 1):
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
        logits, state = model.step(torch.tensor(feed, device=device), state)


def _choose(logits: Tensor, sampler: Sampler, generators: Sequence[torch.Generator]) -> list[int]:
    """One token a row; each row draws from its own generator, and only where it writes."""
    if not logits.isfinite().all():
        raise RequestError("the model's logits are not finite (did its training diverge?); another run would do")
    uniform = torch.stack([torch.rand((), generator=each, dtype=torch.float64) for each in generators])
    return [int(token) for token in sampler.choose(logits, uniform)]


def _generators(prompts: Sequence[Sequence[int]], seed: int) -> list[torch.Generator]:
    """A generator a prompt, that of its first, second, ... occurrence."""
    seen: Counter[tuple[int, ...]] = Counter()
    generators = []
    for prompt in map(tuple, prompts):
        generators.append(torch.Generator().manual_seed(derive(seed, "generation", seen[prompt])))
        seen[prompt] += 1
    return generators


def _groups(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Rows by length, cut where reading a longer prompt token by token would cost more than a batch of its own."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if groups and lengths[row] - lengths[groups[-1][0]] <= max_tokens:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


@contextmanager
def _evaluating(model: LanguageModel) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class TextStream:
    """The text of ids as they come, never half a character: bytes that may become one wait for the rest."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = ""

    def push(self, token: int) -> str:
        """The text that is certain now and was not before."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        # UTF-8 is read from left to right: only the last character can still change, and only from a replacement.
        # What has been shown stays: a special token has no text and leaves the replacement before it at the end.
        certain = max(text.removesuffix(REPLACEMENT), self._shown, key=len)
        new = certain[len(self._shown) :]
        self._shown = certain
        if certain == text and (alone := self._tokenizer.decode([token])):
            # One token of context is enough, for decoders that write a word's first token without its space.
            self._ids, self._shown = [token], alone
        return new

    def close(self) -> str:
        """What still waited: a replacement character for bytes that became none."""
        return self._tokenizer.decode(self._ids)[len(self._shown) :]
