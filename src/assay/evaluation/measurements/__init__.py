"""One file per measurement; the registry in `assay.evaluation.measurement` finds them."""
