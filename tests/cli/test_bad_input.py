"""A wrong request: exactly one line on standard error, exit status 2, nothing on standard output, nothing left."""

import os
import re
from pathlib import Path

import pytest
import torch

from cli.command import Assay

SPLIT = "train, validation and test"
CASES = {
    # architectures and sizes
    "unknown architecture": ("compare gpt11", "unknown architecture 'gpt11': did you mean 'gpt1'?"),
    "unknown architecture to train": ("train rwkv", "unknown architecture 'rwkv': did you mean 'rwkv7'?"),
    "unknown architecture to describe": ("describe mamba", "did you mean 'mamba2'?"),
    "architecture twice": (
        "compare gpt1 gpt1",
        "arms: gpt1 stands twice; a name of its own, as in again=gpt1:replicate=1",
    ),
    "impossible size": ("train gpt1 {tokens} --size 3", "--size 3: no gpt1 within 1% .* nearest .* is [0-9,]+$"),
    "size in words": ("train gpt1 --size abc", "--size abc: a whole number above zero is needed, as in 300k"),
    "negative size": ("train gpt1 --size -5", "--size -5: a whole number above zero is needed"),
    "size beyond reason": ("train gpt1 --size 900G", "--size: 900000000000 given, should be less than or equal"),
    "size and width": ("train gpt1 {small} --size 30k", "--size 30,000: .* with d_model=64, n_layers=1; .* fewer"),
    "width beyond reason": ("train gpt1 {tokens} --set d_model=9e15", "--set d_model: .* at most 100,000,000 would do"),
    "depth beyond reason": ("train gpt1 {tokens} --set n_layers=1M", "--set n_layers: 1000000 given, at most 10,000"),
    "positions beyond reason": ("train gpt1 {small} --set max_positions=9e15", "--set max_positions: .* at most 100,0"),
    "threads beyond reason": ("train gpt1 {small} --set execution.threads=1e15", "--set execution.threads: .* 4096"),
    "batch beyond reason": ("train gpt1 {small} --batch-tokens 9e18", "--batch-tokens .* 1073741824"),
    "heads": ("train gpt1 {tokens} --set d_model=30", r"--set d_model: 30 given, .* n_heads \(4\); 28 would do"),
    "width in words": ("train gpt1 {tokens} --set d_model=x", "--set d_model: 'x' given, should be a valid integer"),
    "heads to describe": ("describe gpt1 --set d_model=30", "model.d_model: 30 given, .* 28 would do"),
    "unknown dimension": ("describe gpt1 --set n_head=2", "--set n_head: unknown key; did you mean 'n_heads'?"),
    "no dimension": ("describe gpt1 --set learning_rate=1", "--set learning_rate: no dimension of a model; .*d_model"),
    "positions": ("train gpt1 {small} --context 1024 --batch-tokens 1024", "--context 1024: gpt1 has 512 positions; "),
    "context of one": ("train gpt1 --context 1", r"--context \(training.context\): 1 given, should be greater"),
    "match": (
        "train gpt1 --match banana",
        r"--match: 'banana' given, should be 'blocks\+head', 'non-embedding', 'total', 'flops' or 'state'",
    ),
    "body": (
        "train gpt1 {small} --body banana",
        r"--body \(model.body\): 'banana' given, should be 'native' or 'common'",
    ),
    "init": ("train gpt1 {small} --init banana", "--init .*: 'banana' given, should be 'own' or 'blinkdl'"),
    # text
    "missing file": ("train gpt1 {small} --corpus text:{bad}/absent.txt", "--corpus text:{bad}/absent.txt: no such"),
    "empty file": (
        "train gpt1 {small} --corpus text:{bad}/empty.txt",
        "--corpus text:{bad}/empty.txt: empty; .* needed",
    ),
    "binary file": ("train gpt1 {small} --corpus text:{bad}/binary.bin", "--corpus .*: a binary file .* is needed"),
    "not UTF-8": ("train gpt1 {small} --corpus text:{bad}/latin.txt", r"--corpus .*: not UTF-8 at byte 3 \(0xe9\)"),
    "broken jsonl": ("train gpt1 {small} --corpus text:{bad}/broken.jsonl", "--corpus .*: line 2 is not JSON"),
    "no such field": ("train gpt1 {small} --corpus text:{bad}/fieldless.jsonl", "line 1 has no field 'text'; .*'body'"),
    "too short to split": (
        "train gpt1 {small} --corpus text:{bad}/short.txt",
        f"--corpus .*: 1 document; {SPLIT} need",
    ),
    "too short for a context": (
        "train gpt1 {small} --context 4096 --batch-tokens 4096",
        "--context 4096: the (validation|test|train) split of .* has [0-9]+ tokens; .* --context [0-9]+ would do",
    ),
    "unknown corpus": ("train gpt1 {small} --corpus stdlb", "--corpus stdlb: unknown corpus .* 'stdlib'?"),
    "unknown tokenizer": ("train gpt1 {small} --tokenizer bpee", "--tokenizer bpee: unknown; bytes, bpe:N, gpt2 or"),
    "tiny tokenizer": ("train gpt1 {small} --tokenizer bpe:3", "--tokenizer bpe:3: N of bpe:N .* bpe:4096 would do"),
    # numbers
    "negative learning rate": ("train gpt1 --lr -1", "--lr -1: '-1' is no number above zero; 3e-3, "),
    "learning rate zero": ("train gpt1 --lr 0", "--lr 0: '0' is no number above zero"),
    "learning rate NaN": ("train gpt1 --lr nan", "--lr nan: 'nan' is no number above zero"),
    "learning rate inf": ("train gpt1 --lr inf", "--lr inf: 'inf' is no number above zero"),
    "learning rate in words": ("train gpt1 --lr fast", "--lr fast: 'fast' is no number above zero"),
    "NaN through --set": (
        "train gpt1 --set learning_rate=.nan",
        "--set learning_rate: nan given, should be a finite number",
    ),
    "zero seeds": ("compare gpt1 --seeds 0", "--seeds 0: at least one seed is needed"),
    "negative seeds": ("compare gpt1 --seeds -2", "--seeds -2: a count .* or a list"),
    "squared seeds": ("compare gpt1 --seeds ²", "--seeds ²: a count .* or a list"),
    "seeds without end": ("compare gpt1 --seeds " + "9" * 400, "--seeds 9+: a count .* or a list"),
    "too many seeds": ("compare gpt1 --seeds 1e9", "--seeds 1e9: counts seeds, at most 10,000; 5 would do"),
    "size without end": ("compare gpt1 --size " + "9" * 400, "--size 9+: a whole number above zero is needed"),
    "size in other digits": (
        "compare gpt1 --size \uff11\uff12",
        "--size \uff11\uff12: a whole number above zero is needed",
    ),
    "size with _": ("compare gpt1 --size 1_000", "--size 1_000: a whole number above zero is needed"),
    "rate that rounds to zero": ("train gpt1 --lr 1e-999", "--lr 1e-999: '1e-999' is no number above zero"),
    "squared looks": ("compare gpt1 --looks 5,²", "--looks 5,²: ascending numbers"),
    "squared workers": ("compare gpt1 --workers ²", "--workers ²: auto, or a whole number above zero"),
    "workers without end": ("compare gpt1 --workers " + "9" * 5000, "--workers 9+: auto, or a whole number above"),
    "squared seed": ("train gpt1 --seed ²", "--seed ²: a whole number, zero or more"),
    "squared axis": ("train gpt1 --task copying:length=²", "--task copying:length=²: .*length: '²' given, .*integer"),
    "seeds in words": ("compare gpt1 --seeds many", "--seeds many: a count .* or a list"),
    "a seed twice": ("compare gpt1 --seeds 1,1", r"--seeds: \[1, 1\] given, must not repeat itself"),
    "no seeds through --set": ("compare gpt1 --set seeds=[]", r"--set seeds: \[\] given, should have at least 1$"),
    "negative seed": ("train gpt1 --seed -1", "--seed -1: a whole number, zero or more, is needed"),
    "negative seed through --set": (
        "compare gpt1 --set seeds=[-1]",
        r"--set seeds: \[-1\] given, must be zero or more",
    ),
    "tokens": ("train gpt1 --tokens 0", "--tokens 0: a whole number above zero is needed"),
    "half windows": (
        "train gpt1 --batch-tokens 100 --context 32",
        "--batch-tokens 100: must be a multiple of --context 32; 96 would do",
    ),
    "schedule": (
        "train gpt1 --schedule banana",
        "--schedule .*: 'banana' given, should be 'constant', 'cosine' or 'wsd'",
    ),
    "device": (
        "train gpt1 --device banana",
        "--device .*: 'banana' given, should be 'auto', 'cpu', 'cuda', 'cuda:N' or",
    ),
    "a device number without end": (
        "train gpt1 --device cuda:" + "9" * 30,
        "--device .*: 'cuda:9+' given, should be 'auto', 'cpu', 'cuda', 'cuda:N' or",
    ),
    "no CUDA": (
        "train gpt1 {small} --device cuda",
        "--device cuda: this torch sees 0 CUDA devices; --device cpu works",
    ),
    "precision": ("train gpt1 --precision float8", "--precision .*: 'float8' given, should be 'auto', 'float32' or"),
    # configurations
    "unknown key in a file": (
        "train gpt1 --config {bad}/unknown.yaml",
        "--config {bad}/unknown.yaml: unknown key 'training.learning_rte': did you mean 'training.learning_rate'?",
    ),
    "unknown dimension in a file": (
        "train gpt1 {tokens} --config {bad}/nested.yaml",
        "model.n_head: unknown key for gpt1; did you mean 'n_heads'?",
    ),
    "wrong type in a file": (
        "train gpt1 --config {bad}/wrong.yaml",
        r"--config {bad}/wrong.yaml: training.learning_rate: \[1\] given, should be a valid number",
    ),
    "a dotted key in a file": (
        "train gpt1 --config {bad}/dotted.yaml",
        "--config {bad}/dotted.yaml: unknown key 'data.corpus': --set takes it dotted; in a file it is nested, "
        r"as in data: \{corpus: ...\}",
    ),
    "a dotted key deeper in a file": (
        "train gpt1 --config {bad}/dotted2.yaml",
        "--config {bad}/dotted2.yaml: unknown key 'rule.looks.x': .*rule: .looks: .x: ",
    ),
    "nested without end": ("train gpt1 --config {bad}/deep.yaml", "--config {bad}/deep.yaml: .*nested too deeply; 32"),
    "an alias of itself": (
        "train gpt1 --config {bad}/alias.yaml",
        "--config {bad}/alias.yaml: .*nested too deeply; 32",
    ),
    "aliases of aliases": (
        "train gpt1 --config {bad}/laughs.yaml",
        "--config .*laughs.yaml: .*more than 100,000 values",
    ),
    "nested in --set": ("train gpt1 --set seeds=" + "[" * 3000, "--set seeds=.*nested too deeply; 32"),
    "a size in a file": (
        "train gpt1 {tokens} --config {bad}/tiny.yaml",
        "--config {bad}/tiny.yaml: size 3: no gpt1 within 1%",
    ),
    "seeds in a file": ("compare gpt1 --config {bad}/seeds.yaml", "--config {bad}/seeds.yaml: seeds 0: at least one"),
    "a flag before a file": (
        "train gpt1 {tokens} --config {bad}/seeds.yaml --size 3 --seed 1",
        "--size 3: no gpt1 within",
    ),
    "a truth that is a number": ("train gpt1 --set tokens=true", "--set tokens: True given, should be a valid integer"),
    "yes": ("train gpt1 --set layer_rates=yes", "--set layer_rates=yes: .*yes: YAML reads it as true or false; true, "),
    "octal": ("train gpt1 --set tokens=0o17", "--set tokens=0o17: .*a number is written in decimal digits"),
    "missing file of settings": ("train gpt1 --config {bad}/no.yaml", "--config {bad}/no.yaml: No such file"),
    "folder of settings": ("train gpt1 --config {bad}", "--config {bad}: Is a directory"),
    "file of settings is no YAML": ("train gpt1 --config {bad}/broken.yaml", "--config .*: line 2: expected"),
    "file of settings is binary": (
        "train gpt1 --config {bad}/binary.bin",
        "--config {bad}/binary.bin: not UTF-8 at byte",
    ),
    "file of settings is a list": ("train gpt1 --config {bad}/list.yaml", "--config .*: holds a list; a mapping"),
    "unknown key in --set": (
        "train gpt1 --set training.learning_rte=1",
        "--set training.learning_rte: unknown key; did you mean 'training.learning_rate'?",
    ),
    "strange key in --set": ("train gpt1 --set zzz=1", "--set zzz: unknown key; there is data, "),
    "--set without a value": ("train gpt1 --set tokens", "--set tokens: KEY=VALUE is needed, as in --set training"),
    "plug-in": ("list --plugin {bad}/absent.py", "--plugin {bad}/absent.py: no such file"),
    # folders
    "output is a file": ("train gpt1 {small} --out {bad}/notes.txt", "--out {bad}/notes.txt: is a file; give a folder"),
    "output under a file": ("train gpt1 {small} --out {bad}/notes.txt/x/y", "--out .*: Not a directory; give a folder"),
    "output in /proc": ("compare gpt1 {small} --out /proc/nope/x", "--out /proc/nope/x: .*; give a folder that can be"),
    "occupied output": ("compare gpt1 {small} --out {bad}", "--out {bad}: holds other files; give a new folder"),
    "nothing to report": ("report {bad}", "{bad}: no study.json; give the folder of a finished study"),
    # the command itself
    "unknown option": ("compare --bananas", "No such option: --bananas; `assay compare --help` says what would do"),
    "unknown verb": ("bananas", "No such command 'bananas'; `assay --help` says what would do"),
    "option without a value": ("compare --size", "Option '--size' requires an argument; `assay compare --help`"),
    "no architecture": ("train", "ARM: missing; a name from `assay list`, or --config RUN/config.yaml"),
    "two seeds for one run": ("train gpt1 --seeds 2", "No such option: --seeds .*--seed"),
}


def leftovers() -> list[str]:
    """Partial files in the cache, as an interrupted write of tokens would leave."""
    cache = Path(os.environ["ASSAY_CACHE"])
    return [path.name for path in cache.rglob("*") if ".part-" in path.name] if cache.exists() else []


@pytest.mark.parametrize("case", CASES)
def test_one_line(case: str, assay: Assay, bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    command, says = CASES[case]
    before = sorted(path.name for path in bad.rglob("*"))
    got = assay(*command.format(small=" ".join(assay.small), tokens=" ".join(assay.tokens), bad=bad).split())
    assert got.status == 2
    assert got.out == ""
    assert len(got.lines) == 1, got.err
    pattern = says.replace("{bad}", re.escape(str(bad))).replace("'?", r"'\?")
    assert re.match(f"assay: .*{pattern}", got.err), got.err
    assert assay.left() == []
    assert sorted(path.name for path in bad.rglob("*")) == before
    assert leftovers() == []


def test_a_size_beyond_the_memory(assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 bytes a parameter: float32 weights, gradients and two moments; a quarter of the most that fits would do."""
    monkeypatch.setattr("assay.study.resolve.memory_bytes", lambda _: 1_000_000_000)
    got = assay("train", "gpt1", *assay.tokens, "--size", "100M")
    assert (got.status, got.out, assay.left()) == (2, "", [])
    (line,) = got.lines
    assert re.fullmatch(
        "assay: --size: training gpt1 of [0-9,]+ parameters takes over 2 GB, and cpu has 1 GB; 15M would do", line
    )


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_the_folder_of_another_study(verb: str, assay: Assay) -> None:
    seed = ["--seed" if verb == "train" else "--seeds", "1"]
    (assay.cwd / "mine").mkdir()
    assert assay("train", "gpt1", "--seed", "1", *assay.small, "--out", "mine/run").status == 0
    before = assay.left()
    got = assay(verb, "gpt1", *seed, *assay.small, "--lr", "0.5", "--out", "mine/run")
    assert (got.status, got.out) == (2, "")
    (line,) = got.lines
    other = "training.learning_rate is 0.003 there and 0.5 now; a new folder, or the same value, would do"
    own = "holds a run, and a study needs a folder of its own"
    assert line == f"assay: --out mine/run: {other if verb == 'train' else own}"
    assert assay.left() == before


def test_a_folder_that_was_empty_stays_empty(assay: Assay) -> None:
    (assay.cwd / "out").mkdir()
    assert assay("compare", "gpt1", *assay.tokens, "--size", "3", "--out", "out").status == 2
    assert assay.left() == ["out"]
