"""Speed and leakage, measured; results are kept with the command that made them."""
