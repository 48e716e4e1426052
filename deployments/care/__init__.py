"""Care of a running system: backup and restore of its home."""
