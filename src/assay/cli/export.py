"""`assay export`: a trained or imported model, as a folder that transformers loads."""

import json
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.generate import Subject
from assay.cli.options import Json, Plugin, load_plugins


def export(
    subject: Subject,
    to: Annotated[Path, typer.Option(help="The new folder.")],
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Write config.json, model.safetensors and the tokenizer for transformers' AutoModelForCausalLM.

    Architectures that transformers has load there as they are; any other after `import assay.hub`.
    """
    load_plugins(plugin)
    from assay.hub.export import export_model
    from assay.study.subject.lookup import load_subject

    loaded = load_subject(subject)
    kind = export_model(loaded.architecture, loaded.config, loaded.model, loaded.tokenizer, loaded.begins_with_bos, to)
    if as_json:
        typer.echo(json.dumps({"architecture": loaded.architecture.name, "model_type": kind, "folder": str(to)}))
        return
    first = "import assay.hub; " if kind == "assay" else ""
    typer.echo(f"folder: {to}\n{first}transformers.AutoModelForCausalLM.from_pretrained({str(to)!r}) loads it")
