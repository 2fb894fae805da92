"""Turns a plan into a running instance: the run directory, the keeper's configuration, exec."""
