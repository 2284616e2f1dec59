"""Parity of a model that only generates: its greedy choices are the likeliest tokens of one forward pass.

Shapes: B batch, T tokens.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from assay.audit.calling.signatures import parameters_of
from assay.audit.decoding.roles import methods
from assay.audit.probing.evidence import Change, finding_of
from assay.audit.probing.search import Search
from assay.audit.probing.yardstick import Yardstick
from assay.audit.subject.subject import RaisedError, Subject
from assay.errors import RequestError
from assay.records import Finding

PROMPTS, TOKENS, FEW_TOKENS = (5, 9), 24, 4
"""Tokens in the prompts, and how many are generated after each."""
_COUNT = re.compile(r"^(max_new_tokens|num_(new_)?tokens|n_tokens|new_tokens|max_tokens|steps|num_steps|n|count)$")
_TOTAL = re.compile(r"^(max_len|max_length|length|seq_len|total_len|total_length|max_seq_len)$")
_GREEDY: dict[str, Any] = {
    **dict.fromkeys(("top_k", "topk"), 1),
    **dict.fromkeys(("do_sample", "sample"), False),
    **dict.fromkeys(("greedy", "argmax"), True),
    "repetition_penalty": 1.0,
}
COLD = 1e-7
"""The temperature at which sampling is taken for greedy, where nothing else makes it so."""


class UngreedyError(Exception):
    """A method that generates could not be called, or draws at random; the text says which."""


def generation(subject: Subject, search: Search, yardstick: Yardstick, rows: Tensor) -> Finding | None:
    """Whether each token that the model generates greedily after `rows` [2, T] is the likeliest of one forward.

    None where the model has no method of its own that generates; an UngreedyError where it cannot be told.
    """
    name = next(methods(subject.model, "generate"), None)
    if name is None:
        return None
    tokens = min(FEW_TOKENS if search.brief else TOKENS, search.longest - max(PROMPTS))
    if tokens < 1 or rows.shape[1] < max(PROMPTS):
        raise UngreedyError(f"`{name}` on so few tokens")
    changes: list[Change] = []
    for prompt, ids in zip(PROMPTS, (rows, rows.flip(0).roll(1, 1)), strict=True):
        try:
            grown = _grown(subject, name, ids[:, :prompt], tokens)
        except (RaisedError, RequestError) as error:
            raise UngreedyError(f"`{name}` raised {error}") from error
        changes += _choices(subject, grown, prompt, yardstick)
    worst = max(changes, key=lambda change: change.excess)
    finding = finding_of(
        "parity",
        worst,
        yardstick,
        f"`{name}` chooses the tokens that one forward calls the likeliest",
        f"`{name}` chooses another token than the likeliest of one forward",
    )
    if finding.status == "pass":
        return finding
    return finding.model_copy(update={"where": f"{subject.name}.{name}: token {worst.position + 1}", "modules": ("",)})


def _grown(subject: Subject, name: str, prompt: Tensor, tokens: int) -> Tensor:
    """The prompt [B, T] with what is generated after it, of as many rows as the method takes."""
    last: RaisedError | RequestError | None = None
    for rows in (len(prompt), 1):
        given = _given(subject.model, name, prompt.shape[1], tokens)
        try:
            outputs = []
            for seed in (0, 1):
                with subject.running(seed=seed) as model:
                    outputs.append(_ids(getattr(model, name)(prompt[:rows].to(subject.device), **given), prompt[:rows]))
        except (RaisedError, RequestError) as error:
            last = error
            continue
        if outputs[0].shape != outputs[1].shape or not torch.equal(*outputs):
            raise UngreedyError(f"`{name}` draws at random, or goes on from the call before")
        return outputs[0]
    assert last is not None
    raise last


def _given(model: nn.Module, name: str, prompt: int, tokens: int) -> dict[str, Any]:
    names = list(parameters_of(getattr(model, name)))[1:]
    given: dict[str, Any] = {key: tokens for key in names if _COUNT.search(key)}
    given |= {key: prompt + tokens for key in names if _TOTAL.search(key) and not given}
    given |= {key: value for key, value in _GREEDY.items() if key in names}
    if "temperature" in names:
        given["temperature"] = 1.0 if any(key in given for key in ("top_k", "topk")) else COLD
    return given


def _ids(output: Any, prompt: Tensor) -> Tensor:
    """The ids [B, T] after the prompt's own, in what a method returned; a RequestError where there are none."""
    found = output[0] if isinstance(output, tuple) and output else output
    if isinstance(found, list):
        found = torch.tensor(found)
    if not isinstance(found, Tensor) or found.is_floating_point():
        raise RequestError(f"model: generates a {type(found).__name__}; ids [B, T] would do")
    found = found.view(len(prompt), -1).cpu()
    begins = found.shape[1] > prompt.shape[1] and torch.equal(found[:, : prompt.shape[1]], prompt)
    grown = found if begins else torch.cat([prompt, found], 1)
    if grown.shape[1] <= prompt.shape[1]:
        raise RequestError("model: generates no tokens")
    return grown


def _choices(subject: Subject, grown: Tensor, prompt: int, yardstick: Yardstick) -> Iterator[Change]:
    """For each generated token, how far the likeliest token's logit is above its own."""
    logits = subject.logits(grown[:, :-1])[:, prompt - 1 :, : subject.vocab_size]
    own = logits.gather(2, grown[:, prompt:, None].to(logits.device))[..., 0]
    behind = (logits.amax(2) - own).amax(0)
    for place, moved in enumerate(behind.tolist()):
        allowed = yardstick.allowed[min(prompt - 1 + place, len(yardstick.allowed) - 1)].item()
        yield Change(0, prompt - 1 + place, moved, allowed, moved / allowed if moved else 0.0)
