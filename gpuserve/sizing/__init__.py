"""Answers without a profile: which cards, how many, which quantization, and what it leaves.

Pure. Every answer is a whole profile that was assessed as `check` assesses one, so that the two
cannot disagree.
"""
