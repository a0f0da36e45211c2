"""The project itself: packaging, documentation, import rules."""
