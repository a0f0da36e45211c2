"""What is served, stolen and trained: architectures, bundles, datasets, the training loop."""
