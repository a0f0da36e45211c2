"""Tests mirror the tree; conformance/ and e2e/ cut across it."""
