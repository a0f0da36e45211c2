"""Rows of the papers' own tables, in stages of at most ten minutes on one GPU."""
