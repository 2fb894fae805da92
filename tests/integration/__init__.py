"""Real processes and sockets; a fake engine in the place of vLLM."""
