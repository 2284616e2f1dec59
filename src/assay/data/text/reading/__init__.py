"""From files and folders to documents: formats, rows, splits that the user made."""
