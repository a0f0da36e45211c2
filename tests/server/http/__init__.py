"""Tests of the callers' port, with a fake data plane behind it."""
