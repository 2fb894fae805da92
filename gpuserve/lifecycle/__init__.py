"""The life of one engine as pure functions: states, events, `step`, the gate, liveness.

Nothing here waits, signals or reads a clock; `controller.replica` carries out what is decided.
"""
