"""gRPC: the only place of the server that knows it."""
