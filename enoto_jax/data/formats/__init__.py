"""A module per file format: each opens a file or folder in the flat layout (`files.Opened`)."""
