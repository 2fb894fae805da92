"""Settings for all tests."""

from hypothesis import settings

# No deadline: how long one example takes says more about the box than about the code.
settings.register_profile("gpuserve", deadline=None)
settings.load_profile("gpuserve")
