"""What the boundary refused is a row of the run's report, also where the log cannot be read."""

from fedcore.config import make_config
from fedcore.sites.coordinator import Coordinator
from tasks import home
from tasks.artifacts import refusal_facts

ROW = "refused at the boundary"


def test_a_report_counts_what_was_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path))
    config, log = make_config({"engine": {"kind": "sites"}}), Coordinator(home.coordinator()).log
    assert refusal_facts(make_config({}), "run") == {}
    assert refusal_facts(config, "run") == {ROW: "nothing"}
    for count in (1, 41):
        log.append("refused", run="run", subject="va", reason="norm", details={"count": count})
    assert refusal_facts(config, "run") == {ROW: "va: norm 42"}
    log.path.write_text("{}\n")
    assert refusal_facts(config, "run")[ROW].startswith("unknown: ")
