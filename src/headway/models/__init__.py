"""One file for each published architecture; the folder is the registry."""
