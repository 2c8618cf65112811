"""The pages: each asks within the visit's sight, and says in the visit's trace what was looked at."""
