"""What is served, stolen and trained.

architectures   networks by name
normalisation   the papers' constants by name
card, bundle    what is on disk: a description that is checked, and weights
preprocessing   any image becomes what a model is shown
datasets        images by name
training        the one training loop
victim          what is served, as everybody above sees it
simplex         arithmetic on probability vectors
errors          what can go wrong with any of these
"""
