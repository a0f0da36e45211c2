"""Objectives of defended weights, for the loop in ``models.training``."""
