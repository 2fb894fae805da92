"""Memory truth: from a model's shape and a demand to bytes on a GPU, and whether they fit.

Pure: no clock, no disk, no sockets. Readings of the machine and of checkpoints come in as
values (`machine.readings`), verdicts go out as values (`memory.report`).
"""
