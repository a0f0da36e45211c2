"""The other side of the wire: steals over HTTP, measures leakage."""
