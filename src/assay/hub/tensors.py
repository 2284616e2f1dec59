"""Reads and writes safetensors files, and fills a model with tensors, which must be exactly its own."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from assay.errors import RequestError


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, by name; a file that is missing or broken is a RequestError."""
    if not path.is_file():
        raise RequestError(f"{path}: no such file; all parts of the weights are needed")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RequestError(f"{path}: not a whole safetensors file ({error})") from None


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one file, in the form that transformers expects; an OSError where the disk cannot take it."""
    path.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"format": "pt"}))


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy `tensors` into `model`, in the model's types.

    A tensor that is missing, left over, of another shape or not of floating point is a RequestError about `where`.
    """
    wanted = model.state_dict()
    for problem, names in (
        ("misses", [name for name in wanted if name not in tensors]),
        ("has, and the model has not,", [name for name in tensors if name not in wanted]),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise RequestError(f"{where}: {problem} the tensor {names[0]}{more}; the weights of another model?")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)}, the model's is {list(wanted[name].shape)}"
            raise RequestError(f"{where}: tensor {name} is {shapes}; config and weights do not belong together")
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise RequestError(f"{where}: tensor {name} is {tensor.dtype}; weights that are not quantised would do")
    model.load_state_dict(dict(tensors))
