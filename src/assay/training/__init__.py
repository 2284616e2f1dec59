"""Training: the one loop that every run uses, its optimizer, checkpoints and configuration."""
