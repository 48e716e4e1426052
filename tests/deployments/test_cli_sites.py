"""`fedloom sites`: whom the coordinator knows, by fingerprints that people have compared."""

import json

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from fedcore.sites.coordinator import Coordinator
from fedcore.sites.identity import new_identity
from tasks import home


def call(*words, said=None):
    return CliRunner().invoke(app, ["sites", *map(str, words)], input=said)


@pytest.fixture(autouse=True)
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path / "home"))


@pytest.fixture
def send(tmp_path):
    """Writes what a site of this name sends, with new keys each time."""

    def made(name):
        public = new_identity(name).public
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(public.to_json()))
        return file, public

    return made


def registered():
    return Coordinator(home.coordinator()).registry.sites()


@pytest.mark.parametrize("command", ["identity", "add", "list", "rotate", "revoke"])
def test_every_command_explains_itself(command):
    assert f"fedloom sites {command}" in call(command, "--help").output.partition("Example")[2]


def test_the_identity_is_made_once_and_its_keys_stay_private():
    first, again = call("identity"), call("identity")
    assert first.exit_code == 0 and first.stdout == again.stdout
    public = Coordinator(home.coordinator()).identity.public
    assert json.loads(first.stdout) == public.to_json()
    assert f"fingerprint  {public.fingerprint}" in first.stderr


def test_a_site_is_registered_listed_rotated_and_revoked(send):
    file, public = send("north")
    done = call("add", file, "--most-examples", 300, said="y\n")
    assert done.exit_code == 0 and public.fingerprint in done.output
    assert registered()["north"].most_examples == 300
    assert call("revoke", "north").exit_code == 0
    file, new = send("north")
    done = call("rotate", file, "--fingerprint", new.fingerprint.upper().replace(" ", ""))
    assert done.exit_code == 0, done.output
    (line,) = call("list").output.splitlines()
    assert line.startswith("north  active   300 records") and new.fingerprint in line
    assert line.endswith("1 former keys")
    assert call("revoke", "north").exit_code == 0
    assert "north  revoked" in call("list").output


def test_without_a_compared_fingerprint_nothing_is_registered(send):
    file, _ = send("north")
    assert call("add", file, "--most-examples", 9, said="n\n").exit_code == 1
    assert call("add", file, "--most-examples", 9).exit_code == 1  # nobody answers
    done = call("add", file, "--most-examples", 9, "--fingerprint", "feb3 2e59")
    assert done.exit_code == 1 and "--fingerprint is not that of the file" in done.stderr
    assert registered() == {} and "No site is registered" in call("list").output


def test_keys_are_never_changed_on_the_way(send):
    file, public = send("north")
    call("add", file, "--most-examples", 9, said="y\n")
    done = call("rotate", file, said="y\n")
    assert done.exit_code == 1 and "has these keys already" in done.stderr
    other, _ = send("north")
    done = call("add", other, "--most-examples", 9, said="y\n")
    assert done.exit_code == 1 and "registered already" in done.stderr
    assert call("rotate", other, said="n\n").exit_code == 1
    assert registered()["north"].identity == public


@pytest.mark.parametrize(("command", "last"), [("rotate", "file"), ("revoke", "name")])
def test_an_unknown_site_is_named_with_the_way_out(send, command, last):
    file, _ = send("south")
    done = call(command, file if last == "file" else "south")
    assert done.exit_code == 1 and "fedloom sites add FILE" in done.stderr


SECRET = "CANARY-in-a-file"


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        f'["{SECRET}"]',
        json.dumps({"name": f"../{SECRET}", "signing": "a" * 64, "sealing": "b" * 64}),
        json.dumps({"name": ["north"], "signing": "a" * 64, "sealing": "b" * 64}),
        json.dumps({"name": "north", "signing": SECRET, "sealing": "b" * 64}),
        '{"name": "north", "name": "south", "signing": "", "sealing": ""}',
        "[" * 5000,
        " " * 5000,
    ],
)
def test_a_file_that_is_no_identity_is_refused_and_not_quoted(tmp_path, text):
    file = tmp_path / "sent.json"
    file.write_text(text)
    done = call("add", file, "--most-examples", 9, said="y\n")
    assert done.exit_code == 1 and "sent.json is no public identity" in done.stderr
    assert SECRET not in done.output and registered() == {}


def test_a_missing_file_and_no_records_are_refused(tmp_path, send):
    done = call("add", tmp_path / "absent.json", "--most-examples", 9)
    assert done.exit_code == 1 and "absent.json cannot be read" in done.stderr
    assert call("add", send("north")[0], "--most-examples", 0).exit_code == 2


def test_the_log_says_whom_the_coordinator_registered_and_what_it_refused(send):
    file, public = send("north")
    call("add", file, "--most-examples", 9, said="y\n")
    file, _ = send("north")
    call("rotate", file, said="y\n")
    call("revoke", "north")
    log = Coordinator(home.coordinator()).log
    details = {"ask": "train", "round": 3, "what": "update", "count": 12}
    log.append("refused", run="run-1", subject="north", reason="norm", details=details)
    lines = call("log", "show").output.splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        "registered",
        "rotated",
        "revoked",
        "refused",
    ]
    assert lines[3].endswith("run-1  north  norm  ask=train  round=3  what=update  count=12")
    assert call("log", "show", "--run", "run-1").output.splitlines() == lines[3:]
    assert next(log.entries()).details["key"] == public.fingerprint
    done = call("log", "verify")
    assert done.exit_code == 0 and done.output.startswith("4 entries") and log.head() in done.output


def test_a_log_that_was_changed_is_found_and_takes_no_more(send):
    file, _ = send("north")
    call("add", file, "--most-examples", 9, said="y\n")
    log = Coordinator(home.coordinator()).log
    log.path.write_text(log.path.read_text().replace("north", "south"))
    done = call("log", "verify")
    assert done.exit_code == 1 and "line 1" in done.stderr
    done = call("revoke", "north")  # which holds all the same
    assert done.exit_code == 1 and "changed" in done.stderr
    assert registered()["north"].status == "revoked"


def test_the_log_explains_itself():
    for command in ("show", "verify"):
        assert f"fedloom sites log {command}" in call("log", command, "--help").output


def test_statistics_are_asked_of_sites_alone(tmp_path):
    file = tmp_path / "here.yaml"
    file.write_text("name: here\n")
    done = call("statistics", file)
    assert done.exit_code == 1 and "engine.kind='local': there are no sites" in done.stderr
    assert call("statistics", tmp_path / "absent.yaml").exit_code == 1


def test_the_parameters_of_statistics_are_those_of_its_flow():
    import inspect

    from deployments.cli.sites_statistics import parameters_of
    from fedcore.config import make_config
    from flows.federated_statistics import federated_statistics

    config = make_config({"name": "one", "engine": {"kind": "sites", "sites": ["va"]}})
    sent = parameters_of(config, {"bins": 3})
    assert {*sent} == {*inspect.signature(federated_statistics.fn).parameters}
    assert federated_statistics.validate_parameters(sent)["engine"] == config.engine
