"""gpuserve: several vLLM engines on one machine, behind one OpenAI-compatible endpoint."""

__version__ = "0.1.0"
