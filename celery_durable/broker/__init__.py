"""Internal: the embedded broker, which needs no server."""
