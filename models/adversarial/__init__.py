"""Adversarial versions of whole training sets: made once, kept on disk, used again."""
