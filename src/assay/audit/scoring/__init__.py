"""Whether what a model calls its loss is the loss of its logits: the scorers of others, held against ours."""
