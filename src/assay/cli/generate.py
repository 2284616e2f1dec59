"""`assay generate`: text from a trained or imported model, as it comes."""

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.numbers import parse_count, parse_real, parse_seed
from assay.cli.options import Json, Plugin, load_plugins
from assay.cli.streams import tell
from assay.errors import RequestError

if TYPE_CHECKING:
    from assay.generation import Sampler
    from assay.study.subject.run import LoadedRun

DEFAULT_TOKENS = 128
COMPILED_FROM = 16_384
"""Tokens a prompt from which a compiled step is sure to repay the making of its graph, some ten seconds or more."""

Subject = Annotated[str, typer.Argument(help="The folder of a run or an import, of a study with one run, or hf:PATH.")]


def generate(
    subject: Subject,
    prompt: Annotated[list[str], typer.Option(help="What to continue; repeatable: decoded as one batch.")],
    max_tokens: Annotated[str | None, typer.Option(help="Tokens to write at most.", show_default="128")] = None,
    temperature: Annotated[str | None, typer.Option(help="0 is greedy.", show_default="1 when sampling")] = None,
    top_k: Annotated[str | None, typer.Option(help="Draw from the K likeliest tokens.")] = None,
    top_p: Annotated[str | None, typer.Option(help="Draw from the likeliest tokens that hold P.")] = None,
    seed: Annotated[str, typer.Option(help="Of the draws.")] = "0",
    greedy: Annotated[bool, typer.Option("--greedy", help="The likeliest token each time; so by default.")] = False,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile", help="Decode by a compiled step.", show_default=f"from {COMPILED_FROM:,} tokens"
        ),
    ] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Continue prompts with a model, token by token from its state. Greedy unless a sampling option is given."""
    tokens = None if max_tokens is None else parse_count("--max-tokens", max_tokens)
    number = parse_seed(seed)
    sampler = _sampler(temperature, top_k, top_p, greedy)
    load_plugins(plugin)

    from assay.generation import room
    from assay.model.plan import ExecutionConfig, resolve_plan
    from assay.study.subject.lookup import load_subject

    loaded = load_subject(subject)
    ids = [loaded.prompt(text) for text in prompt]
    fits = room(loaded.model, ids)
    tokens = tokens or min(DEFAULT_TOKENS, DEFAULT_TOKENS if fits is None else fits)
    loaded.model.to(resolve_plan(ExecutionConfig(), lambda _: None).device)
    compiled = tokens >= COMPILED_FROM if compiled is None else compiled
    _Writing(loaded, prompt, ids, as_json).go(tokens, sampler, number, compiled)


def _sampler(warmth: str | None, most: str | None, share: str | None, greedy: bool) -> "Sampler":
    """From the texts of --temperature, --top-k and --top-p."""
    from assay.generation import Sampler

    temperature = None if warmth is None else parse_real("--temperature", warmth)
    top_k = None if most is None else parse_count("--top-k", most)
    top_p = None if share is None else parse_real("--top-p", share)
    given = {"--temperature": temperature, "--top-k": top_k, "--top-p": top_p}
    if greedy and (clash := [name for name, value in given.items() if value is not None]):
        raise RequestError(f"--greedy: draws nothing, so {clash[0]} has no effect; give only one of the two")
    sampling = any(value is not None for value in given.values())
    return Sampler(temperature if temperature is not None else float(sampling), top_k, top_p)


class _Writing:
    """Shows the generated text: that of a single prompt as it comes; of several prompts in their order, each as soon as
    it and those before it are complete.
    """

    def __init__(self, loaded: "LoadedRun", prompts: list[str], ids: list[list[int]], as_json: bool) -> None:
        from assay.generation import TextStream

        self.loaded = loaded
        self.prompts = prompts
        self.ids = ids
        self.as_json = as_json
        self.streams = [TextStream(loaded.text_tokenizer()) for _ in prompts]
        self.made: list[list[int]] = [[] for _ in prompts]
        self.texts = [""] * len(prompts)
        self.waiting = set(range(len(prompts)))

    def go(self, max_tokens: int, sampler: "Sampler", seed: int, compiled: bool) -> None:
        """Generate and show; the speed comes last, on standard error, with the making of a graph in it."""
        from assay import generation

        end = self.loaded.text_tokenizer().eos
        uncompiled: list[str] = []
        started = time.perf_counter()
        for made in generation.generate(
            self.loaded.model, self.ids, max_tokens, sampler, seed, end, compiled=compiled, tell=uncompiled.append
        ):
            if not any(self.made) and len(self.prompts) == 1:
                self._show_prompt(0)
            self.made[made.row].append(made.token)
            self._write(made.row, self.streams[made.row].push(made.token))
            if made.last:
                self._close(made.row)
        seconds = max(time.perf_counter() - started, 1e-9)
        count = sum(map(len, self.made))
        compiled = compiled and not uncompiled
        if self.as_json:
            typer.echo(json.dumps({**self._record(end, sampler, seed, count / seconds), "compiled": compiled}))
        for why in dict.fromkeys(uncompiled):
            tell(why)
        line = f"{count} tokens in {seconds:.2f} s, {count / seconds:,.0f} tokens/s, {sampler}"
        line += ", compiled" if compiled else ""
        tell(line if str(sampler) == "greedy" else f"{line}, seed {seed}")

    def _write(self, row: int, text: str) -> None:
        self.texts[row] += text
        if len(self.prompts) == 1 and not self.as_json:
            typer.echo(_printable(text), nl=False)

    def _close(self, row: int) -> None:
        """Mark the row as complete; show it if it is its turn, and then the complete rows that waited for it."""
        first = min(self.waiting)
        self._write(row, self.streams[row].close())
        self.waiting.discard(row)
        if self.as_json:
            return
        if len(self.prompts) == 1:
            typer.echo()
            return
        for ready in range(first, min(self.waiting, default=len(self.prompts))):
            self._show_prompt(ready)
            typer.echo(_printable(self.texts[ready]) + ("\n" if ready + 1 < len(self.prompts) else ""))

    def _show_prompt(self, row: int) -> None:
        """Show the row's prompt: dim in a terminal; elsewhere only if there are several prompts."""
        if self.as_json or (len(self.prompts) == 1 and not sys.stdout.isatty()):
            return
        typer.secho(_printable(self.prompts[row]), dim=True, nl=False)

    def _record(self, end: int, sampler: "Sampler", seed: int, tokens_per_second: float) -> dict[str, Any]:
        texts = [
            {"prompt": prompt, "text": text, "ids": ids, "ended": "end of text" if ids[-1] == end else "max tokens"}
            for prompt, text, ids in zip(self.prompts, self.texts, self.made, strict=True)
        ]
        return {
            "subject": self.loaded.name,
            "architecture": self.loaded.architecture.name,
            "sampler": str(sampler),
            "seed": seed,
            "texts": texts,
            "tokens_per_second": tokens_per_second,
        }


def _printable(text: str) -> str:
    """The text; in a terminal with control characters replaced by their pictures, as they could control it."""
    if not sys.stdout.isatty():
        return text
    pictures = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
    return text.translate(pictures | dict.fromkeys(range(0x80, 0xA0), 0xFFFD))
