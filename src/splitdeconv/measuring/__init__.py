"""Times worth believing, and those of earlier runs."""
