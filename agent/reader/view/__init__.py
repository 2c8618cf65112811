"""The auditor's web page: search, prove, watch and take away, read-only and within the scope of a grant.

Nothing is reachable without a grant but the way in. What a grant allows is enforced in one place, `sight.py`: the pages ask a
database in which nothing else exists.
"""
