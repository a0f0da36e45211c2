"""The command line, the demo and the recipes: the only package that sees both sides of the wire."""

__version__ = "0.1.0"
