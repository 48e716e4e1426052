"""Flows run in this process and report to the session's real servers."""

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings


@pytest.fixture
def on_stack(stack, tmp_path, monkeypatch):
    """A fresh FEDLOOM_HOME whose flows report to the session's servers."""
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stack.mlflow_url)
    monkeypatch.delenv("FEDLOOM_STORE", raising=False)
    urls = {PREFECT_API_URL: stack.prefect_api_url, PREFECT_UI_URL: stack.prefect_ui_url}
    with temporary_settings(urls):
        yield tmp_path / "home"
