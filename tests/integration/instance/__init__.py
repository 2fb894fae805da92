"""A whole instance, with a fake engine in the place of vLLM, and everything that can befall it."""
