"""The fast path: generation requests carried by bytes, below any HTTP library."""
