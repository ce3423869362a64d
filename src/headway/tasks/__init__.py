"""What a model learns to do, one file each; the folder is the registry."""
