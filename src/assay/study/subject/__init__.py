"""What the SUBJECT of a verb names: ARM | RUN | STUDY | FILE.py[:NAME] | hf:PATH, with a file for each kind."""
