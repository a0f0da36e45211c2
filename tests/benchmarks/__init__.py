"""The benchmarks: what they run is right, though they run too long for a test."""
