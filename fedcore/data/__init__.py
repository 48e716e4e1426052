"""Data sources: each turns files into one :class:`fedcore.data.dataset.Dataset`."""
