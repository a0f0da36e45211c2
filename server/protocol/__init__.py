"""What goes over the wire: bodies, tensors, errors. Knows neither models nor batching."""
