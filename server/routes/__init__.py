"""The callers' port: one file per protocol, each a thin layer over ``server.dataplane``."""
