"""Import and export of models in the layout of Hugging Face: names of tensors, configurations, folders.

Importing this package makes the models that `assay export` writes known to transformers' Auto classes.
"""

from assay.hub.registration import register_with_transformers

register_with_transformers()
