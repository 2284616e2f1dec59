"""Code from outside: plug-in files and installed packages, what each is made of, and who brought an item."""
