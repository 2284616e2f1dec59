"""A gate carried out: planned to a budget, tuned, trained at several sizes, judged by a rule."""
