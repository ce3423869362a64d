"""Search over anything that decodes step by step."""
