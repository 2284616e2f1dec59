"""What stands for a target that nobody asks for, in data, in losses and in measurements alike."""

IGNORED = -100
"""torch's own choice for labels that the loss passes over."""
