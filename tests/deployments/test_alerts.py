import json
from datetime import UTC, datetime, timedelta

from typer.testing import CliRunner

from deployments.alerts import alerts_file, append_alert, read_alerts
from deployments.cli.main import app


def test_alerts_come_back_in_order(tmp_path):
    kept = [append_alert(tmp_path, f"alert {n}", "line\nline [/red]") for n in range(3)]
    assert read_alerts(tmp_path) == kept
    assert alerts_file(tmp_path).stat().st_mode & 0o077 == 0


def test_the_same_alert_is_kept_once_a_minute(tmp_path):
    first = datetime(2026, 1, 1, tzinfo=UTC)
    assert append_alert(tmp_path, "same", "body", first)
    assert append_alert(tmp_path, "same", "body", first + timedelta(seconds=59)) is None
    assert append_alert(tmp_path, "same", "other", first + timedelta(seconds=1))
    assert append_alert(tmp_path, "same", "body", first + timedelta(seconds=60))
    assert len(read_alerts(tmp_path)) == 3


def test_no_file_is_no_alert(tmp_path):
    assert read_alerts(tmp_path) == []


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    append_alert(tmp_path, "whole", "body")
    with alerts_file(tmp_path).open("a") as file:
        file.write(json.dumps({"at": "2026"})[:7] + "\n{}\n[]\n")
    append_alert(tmp_path, "after", "body")
    assert [one.subject for one in read_alerts(tmp_path)] == ["whole", "after"]


def shown(home, monkeypatch, *words):
    monkeypatch.setenv("FEDLOOM_HOME", str(home))
    done = CliRunner().invoke(app, ["alerts", *words])
    assert done.exit_code == 0
    return done.stdout


def test_the_command_shows_the_newest(tmp_path, monkeypatch):
    assert "No alerts" in shown(tmp_path, monkeypatch)
    for n in range(12):
        append_alert(tmp_path, f"alert {n} [/red]", "first\n\nsecond")
    text = shown(tmp_path, monkeypatch, "-n", "2")
    assert "alert 9" not in text
    assert "alert 10 [/red]\n    first\n\n    second\n" in text
    assert "10 older: fedloom alerts -n 12" in text
