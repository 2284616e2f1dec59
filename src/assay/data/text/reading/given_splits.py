"""Official splits by the names of files and folders: train.txt, valid.jsonl, test-00000-of-00002.parquet, train/..."""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from assay.data.corpus import Split
from assay.data.text.reading.contents import COMPRESSED

_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_DATA_SUFFIXES = {".txt", ".text", ".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".raw", ".tokens"}
"""Files of other suffixes, as train.py and test.py, are no splits."""
_ABOUT = re.compile(r"(?i)(readme|licen[cs]e|copying|citation|notice|dataset_infos?|dataset_dict)\b.*")
"""Files beside splits that are about the data; they are in no split."""
_STEM = re.compile(
    rf"(?i)(?P<prefix>(?:.*[-_.])?)(?P<word>{'|'.join(_WORDS)})(?P<shard>(?:[-_.]?\d+(?:[-_.]of[-_.]\d+)?)?)"
)


def given_splits(names: Iterable[str]) -> dict[str, Split]:
    """{name: split} of the files that are in official splits, by their names relative to the corpus's folder.

    There are such splits where a file or folder is called train and another, in the same place and with the same words
    before, validation or test: either in the corpus's own folder, or in folders that hold nothing else. Empty where
    there are none.
    """
    names = list(names)
    official = _complete(names)
    inside = {name: split for (place, _), of in official.items() if place == "." for name, split in of.items()}
    if inside:
        return inside
    all_of = {name: split for of in official.values() for name, split in of.items()}
    rest = [name for name in names if name not in all_of and not _ABOUT.fullmatch(PurePosixPath(name).name)]
    return {} if rest else all_of


def unofficial(names: Iterable[str]) -> tuple[list[str], str | None]:
    """(files and folders that are called like splits, where `given_splits` finds none; the folder that has them).

    The folder is that of the only complete splits, which other files stand beside; None where there is no such one.
    """
    names = list(names)
    called = [part for name in names if (part := _telling_part(name)) is not None]
    places = {place for place, _ in _complete(names)}
    return list(dict.fromkeys(called)), places.pop() if len(places) == 1 else None


def split_by_another_name(names: Iterable[str], further: Mapping[str, str]) -> tuple[str, str] | None:
    """(a further name, the name under which it is read), where that name would put a text into another split.

    `further`: {further name of a file or folder: its name among `names`}, all relative to the corpus's folder.
    """
    names = list(names)
    if not any("train" in name.casefold() for name in (*names, *further)):
        return None
    of_names = given_splits(names)
    files = set(names)
    aliases = {alias: (alias, target, target) for alias, target in further.items() if target in files}
    for alias, target in further.items():
        if target not in files:
            inside = (name for name in names if name.startswith(f"{target}/"))
            aliases |= {alias + name[len(target) :]: (alias, target, name) for name in inside}
    splits = given_splits([*names, *aliases])
    for name, (alias, target, original) in aliases.items():
        if splits.get(name) != of_names.get(original) and name in splits:
            return alias, target
    return None


def is_split_file(name: str) -> bool:
    """Whether the file itself, and no folder around it, is called train, validation or test."""
    found = _split_of(name)
    return found is not None and found[0][0] == str(PurePosixPath(name).parent)


def _complete(names: Iterable[str]) -> dict[tuple[str, str], dict[str, Split]]:
    """{(folder, words before): {name: split}} where there is train and one of the others."""
    groups: dict[tuple[str, str], dict[str, Split]] = {}
    for name in names:
        found = _split_of(name)
        if found is not None:
            group, split = found
            groups.setdefault(group, {})[name] = split
    return {group: of for group, of in groups.items() if "train" in of.values() and len({*of.values()}) > 1}


def _telling_part(name: str) -> str | None:
    """The path of the file, or of the folder, that `_split_of` goes by; of a folder with a / behind."""
    found = _split_of(name)
    if found is None:
        return None
    place, parts = PurePosixPath(found[0][0]), PurePosixPath(name).parts
    depth = len(place.parts) + 1
    return "/".join(parts[:depth]) + ("/" if depth < len(parts) else "")


def _split_of(name: str) -> tuple[tuple[str, str], Split] | None:
    """((folder, words before), split) that the first telling part of a name gives."""
    path = PurePosixPath(name)
    for place, part in zip(reversed(path.parents), path.parts, strict=True):
        stem = _stem(part) if part == path.parts[-1] and place == path.parent else part
        match = None if stem is None else _STEM.fullmatch(stem)
        if match is not None:
            return (str(place), match["prefix"].casefold()), _WORDS[match["word"].lower()]
    return None


def _stem(file: str) -> str | None:
    """A file's name without the suffixes of data and of compression; None where its suffix is not of data."""
    path = PurePosixPath(file)
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.stem if path.suffix.lower() in _DATA_SUFFIXES else None
