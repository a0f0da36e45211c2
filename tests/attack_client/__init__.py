"""The attack client, against a stub that knows the protocol and nothing else."""
