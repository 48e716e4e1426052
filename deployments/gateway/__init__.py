"""The gateway: the one way by which sites reach Prefect's API, each with a token of its own, and
nothing but what is listed in ``rules.py``."""
