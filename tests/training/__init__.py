"""The training loop, its parts and the objectives of defended weights."""
