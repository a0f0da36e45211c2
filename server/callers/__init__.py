"""Callers with keys of their own: who they are, how much they may ask, what they have asked."""
