"""The shim: one small process per engine that owns its tree, its log and its end.

Standard library only and few imports, because there is one per engine and it must outlive
whatever the engine does. It ends only when nothing of the engine is left.
"""
