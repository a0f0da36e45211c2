"""The one training loop and what plugs into it.

``loop.fit(objective, data, plan)`` is all there is to call; an objective says what is minimised,
a plan says everything else.
"""
