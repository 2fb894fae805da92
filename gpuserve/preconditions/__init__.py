"""What would make vLLM refuse to start, or serve badly, apart from memory.

Pure: each function takes what was read and gives problems with their place in the profile. A
problem that is not a warning is one after which vLLM ends, minutes into its start.
"""
