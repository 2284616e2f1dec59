"""From a configuration to a tokenised corpus: read, split, train the tokenizer, encode, store in the cache."""

import hashlib
import json
from collections.abc import Sequence

import tokenizers

from assay.analysis.wording import counted
from assay.cache import cache_folder
from assay.data.config import DataConfig
from assay.data.corpus import SPLITS, Document, Tell, find_corpus, read_documents, silent
from assay.data.text.cache import CACHE_FORMAT, corpus_digest, load_or_build
from assay.data.text.splitting import split_documents
from assay.data.text.tokenized import SplitCounts, TokenizedCorpus, TokenizedSplit, tokenize
from assay.data.text.tokenizer import build_tokenizer, tokenizer_identity

__all__ = ["TokenizedCorpus", "TokenizedSplit", "prepare"]


def prepare(config: DataConfig, progress: Tell | None = None) -> TokenizedCorpus:
    """Return the corpus that `config` asks for, from the cache if possible; RequestError where it cannot be made.

    `progress` shows one line at a time to the user.
    """
    say = progress or silent
    tokenizer = tokenizer_identity(config.tokenizer)
    source, argument = find_corpus(config)
    documents: list[Document] | None = None
    if source.identity is not None:
        content = source.identity(config, argument)
    else:
        documents = read_documents(config, say)
        content = _content_digest(documents)
    request = json.dumps([CACHE_FORMAT, source.name, content, config.split_by, tokenizer, tokenizers.__version__])
    key = hashlib.sha256(request.encode()).hexdigest()

    def build() -> TokenizedCorpus:
        return _build(config, read_documents(config, say) if documents is None else documents, say)

    corpus = load_or_build(cache_folder() / f"{source.name}-{key[:16]}", key, config.corpus, build, say)
    if config.split_by != "hash" and corpus.counts.official and not corpus.counts.made:
        say(f"split_by {config.split_by} changes nothing: {config.corpus} has all its splits")
    return corpus


def _build(config: DataConfig, documents: Sequence[Document], progress: Tell) -> TokenizedCorpus:
    progress(f"{config.corpus}: {counted(len(documents), 'document')}, looking for duplicates")
    documents_of = split_documents(config.corpus, documents, progress, config.split_by)
    texts = [document.text for document in documents_of.train]
    progress(f"{config.tokenizer}: making the tokenizer")
    tokenizer = build_tokenizer(config.tokenizer, texts)
    progress(f"{config.corpus}: encoding")
    tokenized = {name: tokenize(documents_of.split(name), tokenizer) for name in SPLITS}
    lost = [name for _, names in tokenized.values() for name in names]
    if lost:
        progress(f"{config.tokenizer}: {counted(len(lost), 'document')} decoded to another text, as {lost[0]}")
    splits = {name: split for name, (split, _) in tokenized.items()}
    return TokenizedCorpus(
        name=config.corpus,
        digest=corpus_digest(tokenizer, list(splits.values())),
        tokenizer=tokenizer,
        counts=SplitCounts(
            documents_of.duplicates_dropped,
            documents_of.near_duplicate_clusters,
            documents_of.official,
            documents_of.made,
        ),
        invertible=not lost,
        **splits,
    )


def _content_digest(documents: Sequence[Document]) -> str:
    """SHA-256 of names, splits, sources and texts, each with its length before it."""
    content = hashlib.sha256()
    for document in documents:
        text = document.text.encode()
        content.update(json.dumps([document.name, document.split, document.source, len(text)]).encode() + text)
    return content.hexdigest()
