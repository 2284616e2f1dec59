"""What is asked of models and of corpora: scoring, measurements (a file each), checks of the text."""
