"""What a run finds out, as values."""
