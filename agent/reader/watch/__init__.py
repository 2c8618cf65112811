"""Finding silence from the store alone, for when an agent and whoever watches it are gone together.

    newest    the newest seal of every trail, found without listing seals
    judge     what it says of a trail: live, late, silent, unclosed … (pure)
    looking   both, as often as asked
    keep      again and again, for Prometheus and a dead man's switch
    show      a table and JSON for people, metrics for Prometheus
    cli       the command `watch`

It checks the newest seal of a trail, and the first one, whose key has to have signed it. All in between is left to `verify`.
"""
