"""Which arms are compared, what a pair differs by, and who ranks before whom."""
