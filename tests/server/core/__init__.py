"""Tests of the server behind its protocols: batching, engine, life cycle."""
