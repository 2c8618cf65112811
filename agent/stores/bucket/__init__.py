"""A store in a bucket of an object store: S3 and what speaks its API, Google Cloud Storage, Azure Blob.

    access    how a bucket is reached: address, endpoint, region, profile, certificates
    profile   the keys in AWS's credentials file
    words     what a library's exception says, as one of our errors in the store's own words
    examine   what the bucket guarantees, found out with a probe
    store     the store itself

Importing this package loads no network library; using it does, so agents without a bucket stay small.
"""

from __future__ import annotations

from .access import Access, open_bucket
from .store import BucketStore

__all__ = ["Access", "BucketStore", "open_bucket"]
