"""Models of other libraries, read into ours and written from them: names of tensors, configurations, folders.

Importing this package makes the models that `assay export` writes known to transformers' Auto classes.
"""

from assay.hub.registration import register_with_transformers

register_with_transformers()
