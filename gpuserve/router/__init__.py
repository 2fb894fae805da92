"""The endpoint: worker processes that share one listening socket and decide by routing.json."""
