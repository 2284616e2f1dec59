"""Models of the gallery that decode by many habits: one small attention, called as different programs call theirs.

`fault` plants a defect in decoding alone; everything else, parameters included, is the same.
"""

# mypy: disable-error-code="no-any-return"

from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from plain_models import MAX_TOKENS, D, V

Fault = Literal["", "position", "shared", "kept", "batch", "forgets"]
"""None; a position off by one in later pieces; a state that two sequences share; one that is not reset; rows that read
the first row's past; a past that is cut by a token.
"""
Past = tuple[Tensor, Tensor]
"""Keys and values [B, T, D]."""


class Attentive(nn.Module):
    """Causal attention over tokens with learned positions; `read` continues from a past."""

    def __init__(self, fault: Fault = "") -> None:
        super().__init__()
        self.fault = fault
        self.tokens = nn.Embedding(V, D)
        self.positions = nn.Embedding(MAX_TOKENS, D)
        self.keys, self.values, self.head = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, V)

    def read(self, ids: Tensor, past: Past | None = None, position: int | None = None) -> tuple[Tensor, Past]:
        start = 0 if past is None else past[0].shape[1]
        position = (start if position is None else position) + (self.fault == "position" and start > 0)
        x = self.tokens(ids) + self.positions(position + torch.arange(ids.shape[1], device=ids.device))
        k, v = self.keys(x), self.values(x)
        if past is not None:
            known = [part[:1].expand_as(part) if self.fault == "batch" else part for part in past]
            known = [part[:, 1:] if self.fault == "forgets" and start > 8 else part for part in known]
            k, v = torch.cat([known[0], k], 1), torch.cat([known[1], v], 1)
        time = torch.arange(k.shape[1], device=ids.device)
        closed = time > time[-ids.shape[1] :, None]
        y = (x @ k.mT / 4).masked_fill(closed, -torch.inf).softmax(-1) @ v
        if self.fault == "forgets" and past is not None and start > 8:
            k, v = (torch.cat([old[:, :1], new], 1) for old, new in zip(past, (k, v), strict=True))
        return self.head(x + y), (k, v)

    def forward(self, ids: Tensor) -> Tensor:
        return self.read(ids)[0]


class StartPos(Attentive):
    """forward(ids, start_pos), as in the reference code of Llama: the cache is on the module."""

    def __init__(self, fault: Fault = "") -> None:
        super().__init__(fault)
        self.cache_k, self.cache_v = torch.zeros(8, MAX_TOKENS, D), torch.zeros(8, MAX_TOKENS, D)

    def forward(self, ids: Tensor, start_pos: int = 0) -> Tensor:
        rows = len(ids)
        if rows > 8:
            return self.read(ids)[0]
        past = (self.cache_k[:rows, :start_pos], self.cache_v[:rows, :start_pos]) if start_pos else None
        logits, (k, v) = self.read(ids, past)
        self.cache_k[:rows, : k.shape[1]], self.cache_v[:rows, : v.shape[1]] = k.detach(), v.detach()
        return logits


class StepOrNone(Attentive):
    """step(token [B], state=None) -> (logits, state); the broken one begins every sequence in one list."""

    def __init__(self, fault: Fault = "") -> None:
        super().__init__(fault)
        self.memory: list[Past] = []

    def step(self, token: Tensor, state: list[Past] | None = None) -> tuple[Tensor, list[Past]]:
        if state is None:
            state = self.memory if self.fault == "shared" else []
            state.clear()
        logits, past = self.read(token[:, None], state[0] if state else None)
        state[:] = [past]
        return logits[:, 0], state


class InPlaceCache(Attentive):
    """init_cache(batch_size) -> dict; decode_one(token [B, 1], cache) -> logits, and writes into the dict."""

    def __init__(self, fault: Fault = "") -> None:
        super().__init__(fault)
        self.buffer = torch.zeros(2, 8, MAX_TOKENS, D)

    def init_cache(self, batch_size: int) -> dict[str, Any]:
        fresh = self.buffer if self.fault == "shared" else torch.zeros_like(self.buffer)
        return {"kv": fresh[:, :batch_size], "length": 0}

    def decode_one(self, token: Tensor, cache: dict[str, Any]) -> Tensor:
        done = cache["length"]
        k, v = cache["kv"][0, :, :done], cache["kv"][1, :, :done]
        logits, past = self.read(token.view(-1, 1), (k, v) if done else None)
        for place, part in enumerate(past):
            cache["kv"][place, :, : part.shape[1]] = part
        cache["length"] = done + 1
        return logits[:, -1]


class WithParams(Attentive):
    """forward(ids, inference_params), as in mamba_ssm."""

    def forward(self, ids: Tensor, position_ids: Any = None, inference_params: Any = None) -> SimpleNamespace:
        if inference_params is None:
            return SimpleNamespace(logits=self.read(ids)[0])
        memory = inference_params.key_value_memory_dict
        logits, memory["past"] = self.read(ids, memory.get("past") if inference_params.seqlen_offset else None)
        return SimpleNamespace(logits=logits)


class PrefillDecode(Attentive):
    """prefill(ids) -> (logits of the last token, cache); decode(token, pos, cache) -> (cache, logits)."""

    def prefill(self, ids: Tensor) -> tuple[Tensor, SimpleNamespace]:
        logits, past = self.read(ids)
        return logits[:, -1], SimpleNamespace(past=past)

    def decode(self, token: Tensor, pos: int, cache: SimpleNamespace) -> tuple[SimpleNamespace, Tensor]:
        logits, past = self.read(token.view(-1, 1), cache.past, pos)
        return SimpleNamespace(past=past), logits


class AskedFor(Attentive):
    """forward(ids, state=None, return_state=False) -> logits, or (logits, loss, state)."""

    def forward(self, ids: Tensor, state: Past | None = None, return_state: bool = False) -> Any:
        logits, past = self.read(ids, state)
        return (logits, None, past) if return_state else logits


class CacheInside(Attentive):
    """forward(ids, use_cache=False) with a cache on the module, which reset_cache() empties, or should."""

    def __init__(self, fault: Fault = "") -> None:
        super().__init__(fault)
        self.past: Past | None = None

    def reset_cache(self) -> None:
        if self.fault != "kept" or self.past is None:
            self.past = None
        else:
            self.past = self.past[0][:, :1], self.past[1][:, :1]

    def forward(self, ids: Tensor, use_cache: bool = False) -> Tensor:
        logits, past = self.read(ids, self.past if use_cache else None)
        if use_cache:
            self.past = past
        return logits


class SetUp(Attentive):
    """setup_caches(max_batch_size, max_seq_length), then forward(ids, input_pos [T]), as in gpt-fast."""

    def setup_caches(self, max_batch_size: int, max_seq_length: int) -> None:
        self.kv = torch.zeros(2, max_batch_size, max_seq_length, D)

    def forward(self, ids: Tensor, input_pos: Tensor | None = None) -> Tensor:
        if input_pos is None:
            return self.read(ids)[0]
        start, rows = int(input_pos[0]), len(ids)
        logits, past = self.read(ids, (self.kv[0, :rows, :start], self.kv[1, :rows, :start]) if start else None)
        for place, part in enumerate(past):
            self.kv[place, :rows, : part.shape[1]] = part
        return logits


class OneNumber(Attentive):
    """step(token: int, state) -> (logits [V], state); init_state() takes nothing."""

    def init_state(self) -> list[Past]:
        return []

    def step(self, token: int, state: list[Past]) -> tuple[Tensor, list[Past]]:
        logits, past = self.read(torch.tensor([[token]]), state[0] if state else None)
        return logits[0, -1], [past]


class Stateful(Attentive):
    """step(token [B, 1]) with the state on the module; reset() forgets it, or should."""

    def __init__(self, fault: Fault = "") -> None:
        super().__init__(fault)
        self.past: list[Past] = []

    def reset(self) -> None:
        self.past = self.past if self.fault == "kept" else []

    def step(self, token: Tensor) -> Tensor:
        logits, past = self.read(token.view(-1, 1), self.past[0] if self.past else None)
        self.past = [past]
        return logits


class SeveralStates(Attentive):
    """step(token, keys, values) -> (logits, keys, values), begun by allocate_inference_cache."""

    def allocate_inference_cache(self, batch_size: int, max_seqlen: int, dtype: Any = None) -> tuple[Tensor, Tensor]:
        return torch.zeros(batch_size, 0, D), torch.zeros(batch_size, 0, D)

    def step(self, token: Tensor, keys_state: Tensor, values_state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        past = (keys_state, values_state) if keys_state.shape[1] else None
        logits, (k, v) = self.read(token[:, None], past)
        return logits[:, 0], k, v


class KeyCache:
    """The past of one sequence."""

    def __init__(self) -> None:
        self.past: Past | None = None


class OwnObject(Attentive):
    """forward(ids, cache=None), which writes into an object of its own class."""

    def forward(self, ids: Tensor, cache: KeyCache | None = None) -> Tensor:
        logits, past = self.read(ids, None if cache is None else cache.past)
        if cache is not None:
            cache.past = past
        return logits


class SingleTokens(Attentive):
    """forward(ids, past=None) -> (logits, past), which after a past is meant for single tokens, as many are."""

    def forward(self, ids: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        logits, after = self.read(ids, past)
        return (logits if past is None or ids.shape[1] == 1 else self.read(ids)[0]), after


DECODING = (
    *(StartPos, StepOrNone, InPlaceCache, WithParams, PrefillDecode, AskedFor, CacheInside, SetUp, OneNumber, Stateful),
    *(SeveralStates, OwnObject, SingleTokens),
)


class Moved(Attentive):
    """forward(ids, start_pos) that moves positions and keeps nothing: there is nothing to compare."""

    def forward(self, ids: Tensor, start_pos: int = 0) -> Tensor:
        return self.read(ids, position=start_pos)[0]


class Planned(Attentive):
    """A method that decodes, with an argument that nobody can guess."""

    def decode_next(self, token: Tensor, plan: Any) -> Tensor:
        return self.read(plan(token))[0]


class Rolling(nn.Module):
    """The sum of the last `window` tokens, decoded by a ring buffer; a broken one writes a place too far.

    It does so after that many `rounds`.
    """

    def __init__(self, broken: bool, window: int = 16, rounds: int = 2) -> None:
        super().__init__()
        self.tokens, self.mixer, self.head = nn.Embedding(V, D), nn.Linear(D, D), nn.Linear(D, V)
        self.broken, self.window, self.rounds = broken, window, rounds

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids)
        total = nn.functional.pad(x.cumsum(1), (0, 0, self.window, 0))
        return self.head(x + self.mixer(total[:, self.window :] - total[:, : -self.window]))

    def prefill(self, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        x = self.tokens(ids)
        ring = x.new_zeros(len(ids), self.window, D)
        for place in range(max(0, ids.shape[1] - self.window), ids.shape[1]):
            ring[:, place % self.window] = x[:, place]
        return self.forward(ids), {"ring": ring, "length": ids.shape[1]}

    def step(self, token: Tensor, cache: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        x, place, ring = self.tokens(token), cache["length"], cache["ring"].clone()
        ring[:, (place + (self.broken and place >= self.rounds * self.window)) % self.window] = x
        return self.head(x + self.mixer(ring.sum(1))), {"ring": ring, "length": place + 1}


class Generating(Attentive):
    """Only generates, with a cache of its own; the broken one counts positions from one after the prompt."""

    def __init__(self, broken: bool, greedy: bool = True) -> None:
        super().__init__("position" if broken else "")
        self.greedy = greedy

    def generate(self, ids: Tensor, max_new_tokens: int) -> Tensor:
        logits, past = self.read(ids)
        for _ in range(max_new_tokens):
            scores = logits[:, -1] if self.greedy else logits[:, -1] + torch.randn(V)
            ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], 1)
            logits, past = self.read(ids[:, -1:], past)
        return ids
