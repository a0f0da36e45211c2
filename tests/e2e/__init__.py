"""The whole program, as processes that talk over loopback sockets."""
