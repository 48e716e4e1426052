"""One Prefect flow per use."""
