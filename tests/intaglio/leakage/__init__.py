"""Leakage matrices: files, cells, the table, the gate, and whole runs."""
