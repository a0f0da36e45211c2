"""What an operator runs: HTTP on one side, a batched engine on the other."""
