"""hf:PATH as a SUBJECT: a model in Hugging Face's layout, as transformers runs it."""

import importlib.util

from assay.errors import RequestError
from assay.extras import brings
from assay.hub.folder import locate
from assay.study.subject.subject import NamedModel


def transformers_model(subject: str) -> NamedModel:
    """The model as transformers' own class, since that is what is to be audited, even if assay could import it."""
    if importlib.util.find_spec("transformers") is None:
        raise RequestError(f"{subject}: needs transformers; {brings('transformers')}")
    import transformers

    folder = locate(subject)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    except Exception as error:
        raise RequestError(f"{subject}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    return NamedModel(subject, model)
