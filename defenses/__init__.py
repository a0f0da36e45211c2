"""What an answer passes through before it leaves, and how defended weights are trained."""
