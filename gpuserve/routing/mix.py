"""How much of what a conversation holds counts beside its last turn, and what of it is told.

Fitted by hand on the training corpus: docs/router-classifier.md.
"""

# Log-odds of a turn between which it may be about what came before: follow-ups in full sentences
# lean to general, because most of what has no word of programming is.
SAYS_LITTLE = (-2.3, 1.0)
CONTEXT_CAP = 3.0
REPLY_WEIGHT = 0.5
# How many terms are told, and the least of their log-odds.
SHOWN = 4
LEAST_SHOWN = 0.05
