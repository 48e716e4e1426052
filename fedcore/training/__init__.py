"""Local training: what one client does with one model in one round."""
