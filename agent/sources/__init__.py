"""Where lines come from: files that are tailed, and streams that the relay owns."""
