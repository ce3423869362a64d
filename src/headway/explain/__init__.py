"""What a model looks at: attention, pictures, the run report."""
