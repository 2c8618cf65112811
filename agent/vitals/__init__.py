"""The agent's signs of life: metrics, health, clock state, log and the server that shows them.

The package must not know the pipeline: the pipeline tells it what happened, never the other way round.
"""
