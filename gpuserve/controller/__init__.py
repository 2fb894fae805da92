"""The controller: carries out a plan, one engine's life at a time, and answers the commands.

It decides nothing by itself; decisions are `gpuserve.lifecycle`'s. It can be killed at any
moment: engines and routers go on, and the next controller adopts them.
"""
