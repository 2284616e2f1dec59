"""What the audit tries (lengths, positions, contents of sequences), and how far rounding alone moves logits."""
