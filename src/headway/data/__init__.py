"""Files to records to batches."""
