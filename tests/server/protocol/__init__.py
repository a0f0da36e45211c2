"""Tests of the codecs, without HTTP."""
