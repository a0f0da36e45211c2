"""The stages for a GPU, on a CPU."""
