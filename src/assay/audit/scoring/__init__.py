"""Whether a model's loss (its score) is the cross-entropy of its logits, or at least that of some distribution."""
