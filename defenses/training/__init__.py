"""Objectives of defended weights."""
