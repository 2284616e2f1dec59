"""`assay import`: a model in Hugging Face's layout, as a folder that the other verbs read."""

import json
from pathlib import Path
from typing import Annotated

import typer

from assay.cli.options import Json, Plugin, load_plugins


def import_model(
    source: Annotated[str, typer.Argument(help="hf:PATH of a folder, or hf:NAME of a repository on the hub.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the model.", show_default="runs/import-<hash>")] = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Import GPT-2, Mamba-2, or what `assay export` wrote: config.json, safetensors, tokenizer.json.

    A folder is read where it is; only a name that is no folder is looked for on the network.
    """
    load_plugins(plugin)
    from assay.hub.import_ import read_model, write_model
    from assay.model.accounting import count_parameters

    imported = read_model(source)
    folder = out or Path("runs") / f"import-{imported.record.digest[:10]}"
    write_model(imported, folder)
    parameters = count_parameters(imported.model).total
    if as_json:
        facts = {**imported.record.model_dump(mode="json"), "parameters": parameters, "folder": str(folder)}
        typer.echo(json.dumps(facts))
        return
    tokenizer = "no tokenizer" if imported.tokenizer is None else f"tokenizer of {imported.tokenizer.vocab_size:,}"
    typer.echo(f"{imported.record.architecture}: {parameters:,} parameters, {tokenizer}\nfolder: {folder}")
