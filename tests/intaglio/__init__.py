"""The command line, the recipes and what they make."""
