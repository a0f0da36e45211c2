"""Adaptive attacks: what is added to any attack to undo a defense, one file per add-on.

An add-on hooks into one of three places of a theft, and copies none of it. *Asking* add-ons stand
between an attack and its oracle and change what is asked; *answer* add-ons change what a clone is
told of the answers on disk; *training* add-ons change how it learns from them.
"""
