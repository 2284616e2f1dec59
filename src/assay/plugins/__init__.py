"""Code from outside assay: plug-in files and installed packages, the files they consist of, and who registered what."""
