"""The demo: a service, clients that use it, the agent beside it, an auditor, and somebody who tampers."""
