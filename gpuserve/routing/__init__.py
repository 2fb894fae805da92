"""Which model answers a request, and why: pure decisions over a request and a routing table."""
