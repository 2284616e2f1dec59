"""What a model may not do, one check a file: each takes a subject and answers with a finding."""
