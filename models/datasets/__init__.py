"""Images by name."""
