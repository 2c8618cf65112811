"""Redact before the spool: take out, mask or pseudonymise what a trail must not hold, and say so in the record. Pure.

Decisions, and why:

- **Secrecy first.** A trail cannot be rewritten, so a secret that got into it stays for as long as the retention lasts. Where it is
  not certain that a line can be kept without what a rule names, the line is given up. That there was a line is never lost: the caller
  records its length and, with a key, its HMAC-SHA-256. Never a plain hash: of a line whose other words are known, a hash tells ten digits.
- **By place and by looks.** A path rule speaks about the event; its values are known, so they can be found in the original line too,
  if that is JSON. A pattern speaks about text, wherever it stands: in values, keys and numbers of the event, and in the line.
- **Spellings.** What a later reader decodes is what counts: patterns look at the text and at each layer below its escapes (`unfold`), and
  what they find there is cut out where it stands. The pseudonym is of the plain value, so that it is the same in every spelling.
- **Pseudonyms.** Equal values stay equal, so that "everything this person did" can still be asked by whoever has the key. It is a secret
  of its own: whoever has it can test guesses, and for e-mail addresses there are few. A mask says nothing, and cannot be asked for.
- **Names.** A record names the places that were changed. The names hold no secret, and there are never more than a few.
- **What is not looked at:** base64, compression, encryption, secrets that are split over several values or lines: no pattern sees
  through those.

Invariants: `Redactor.redact_text` raises nothing; all work is linear in the text, for any expression (RE2). Nothing here opens
files, reads the environment or logs.
"""

from __future__ import annotations

from .keys import PseudonymKey
from .patterns import BUILT_IN
from .redactor import Redacted, RedactedMapping, RedactedText, Redactor
from .rules import ACTIONS, REDACTED, Action, PathRule, PatternRule, Treatment

__all__ = [
    "ACTIONS",
    "BUILT_IN",
    "REDACTED",
    "Action",
    "PathRule",
    "PatternRule",
    "PseudonymKey",
    "Redacted",
    "RedactedMapping",
    "RedactedText",
    "Redactor",
    "Treatment",
]
