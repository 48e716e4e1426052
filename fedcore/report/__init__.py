"""Pictures, tables and intervals about a finished run; plain values in, bytes and text out."""
