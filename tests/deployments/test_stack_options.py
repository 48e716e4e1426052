import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.stack import postgres
from deployments.stack.credentials import (
    authorization,
    ensure_auth,
    remember_database_password,
    write_secret,
)
from deployments.stack.database import choose_database, database_names, databases, parse_server
from deployments.stack.options import Options, refuse_other_options, with_options
from deployments.stack.proxy import find_nginx, site_config, write_proxy
from deployments.stack.services import service_environment, services
from deployments.stack.stack import (
    AUTH_VARIABLE,
    Stack,
    StackError,
    auth_file,
    auth_string,
    environment,
    pgpass_file,
    public_environment,
    read_stack,
    write_stack,
)
from deployments.stack.tracking import PasswordRequired

SERVER = "postgresql://fl:s3cret@db.example:5433/hospital?sslmode=require"


@pytest.fixture
def stack(tmp_path):
    return Stack(tmp_path, 4200, 5000)


@pytest.fixture
def no_programs(monkeypatch, tmp_path):
    monkeypatch.setattr(postgres, "DEBIAN_BIN", tmp_path / "nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- databases ----------------------------------------------------------------------------------


def test_sqlite_is_the_default_and_a_choice_is_remembered(stack):
    assert choose_database(stack.home, None, None, {}) == ("sqlite", "")
    before = replace(stack, database="postgres")
    assert choose_database(stack.home, None, before, {}) == ("postgres", "")
    write_stack(replace(before, postgres_port=5433, auth=True, public_url="https://fl.example"))
    assert read_stack(stack.home).database == "postgres"
    assert read_stack(stack.home).public_url == "https://fl.example"


def test_another_database_than_that_of_the_data_is_refused_with_the_way_out(stack):
    (stack.home / "prefect").mkdir()
    (stack.home / "prefect" / "prefect.db").touch()
    with pytest.raises(StackError, match=r"in sqlite; in postgres .* another FEDLOOM_HOME"):
        choose_database(stack.home, "postgres", stack, {})
    (stack.home / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(StackError, match="--db postgres` goes on with them"):
        choose_database(stack.home, "sqlite", replace(stack, database="postgres"), {})


def test_a_server_is_named_by_environment_and_its_password_stays_apart(stack):
    chosen, word = choose_database(stack.home, None, None, {"FEDLOOM_DB_URL": SERVER})
    assert word == "s3cret" and "s3cret" not in chosen
    there = replace(stack, database=chosen)
    remember_database_password(stack.home, host="db.example", port="5433", user="fl", word="s3cret")
    urls = databases(there)
    assert urls.prefect.startswith("postgresql+asyncpg://fl@db.example:5433/hospital_prefect?")
    assert "ssl=require" in urls.prefect and "sslmode" not in urls.prefect
    assert "sslmode=require" in urls.mlflow and urls.events.count("hospital_events") == 1
    assert all("passfile=" in url and "s3cret" not in url for url in vars(urls).values())
    assert pgpass_file(stack.home).read_text() == "db.example:5433:*:fl:s3cret\n"
    assert mode(pgpass_file(stack.home)) == 0o600


@pytest.mark.parametrize(
    "url", ["mysql://a:s3cret@h/x", "postgresql://h", "postgresql://a:s3cret@/x", "s3cret"]
)
def test_what_is_no_server_is_refused_without_repeating_it(url):
    with pytest.raises(StackError, match="must read postgresql://USER:PASSWORD@HOST") as refused:
        parse_server(url)
    assert "s3cret" not in str(refused.value)


def test_colons_and_backslashes_of_a_password_are_escaped(tmp_path):
    remember_database_password(tmp_path, host="h", port="*", user="u", word=r"a:b\c")
    assert pgpass_file(tmp_path).read_text() == "h:*:*:u:a\\:b\\\\c\n"


def test_a_database_of_its_own_is_named_in_no_command_line(stack, monkeypatch):
    monkeypatch.setattr(postgres, "find_programs", lambda home: Path("/usr/lib/postgresql/15/bin"))
    own = replace(stack, database="postgres", postgres_port=5433)
    commands = [" ".join(one.command) for one in services(own)]
    assert services(own)[0].name == "postgres"
    assert "listen_addresses=127.0.0.1" in commands[0] and "env -i" in commands[0]
    assert not any("postgresql+" in command for command in commands)
    assert [one.starts_by_itself for one in services(own)] == [True, False, False, False]
    seen = service_environment(own, {})
    assert seen["MLFLOW_BACKEND_STORE_URI"] == databases(own).mlflow
    assert seen["FEDLOOM_EVENTS"] == databases(own).events
    assert set(database_names(own).values()) == {
        "fedloom_prefect",
        "fedloom_mlflow",
        "fedloom_events",
    }


def test_without_postgresql_the_command_is_told(no_programs, tmp_path):
    with pytest.raises(StackError, match=r"not installed. Debian: apt-get install .* postgresql"):
        postgres.find_programs(tmp_path)
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "postgres" / "data" / "PG_VERSION").write_text("13\n")
    with pytest.raises(StackError, match=r"made by PostgreSQL 13, .* postgresql-13"):
        postgres.find_programs(tmp_path)


def test_a_cluster_whose_password_is_gone_is_not_made_anew(stack, monkeypatch):
    monkeypatch.setattr(postgres, "find_programs", lambda home: Path("/nowhere"))
    monkeypatch.setattr(postgres, "server_user", lambda: "")
    (stack.home / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(StackError, match=r"password of the cluster .* is lost"):
        postgres.ensure_cluster(replace(stack, database="postgres"))


# -- the password -------------------------------------------------------------------------------


def test_a_password_is_made_once_and_is_its_owners_only(stack):
    ensure_auth(stack.home)
    first = auth_string(stack.home)
    ensure_auth(stack.home)
    assert auth_string(stack.home) == first
    assert mode(auth_file(stack.home)) == 0o600 and mode(auth_file(stack.home).parent) == 0o700


def test_the_password_is_in_environments_and_nowhere_else(stack):
    told = []
    stack = with_options(stack, None, Options(auth=True), told.append)
    auth = auth_string(stack.home)
    word = auth.partition(":")[2]
    assert environment(stack)["PREFECT_API_AUTH_STRING"] == auth
    assert environment(stack)["MLFLOW_TRACKING_PASSWORD"] == word
    assert service_environment(stack, {})[AUTH_VARIABLE] == auth
    write_stack(stack)
    shown = [str(public_environment(stack)), repr(stack), (stack.home / "stack.json").read_text()]
    commands = [" ".join(one.command) for one in services(stack)]
    assert not any(word in text for text in (*shown, *commands, *told))
    assert "--app-name fedloom" in " ".join(commands)


def test_no_password_by_default_and_no_header(stack):
    assert authorization(stack) == {}
    assert "PREFECT_API_AUTH_STRING" not in environment(stack)


def test_a_secret_that_others_read_is_refused(stack):
    write_secret(auth_file(stack.home), "fedloom:x\n")
    auth_file(stack.home).chmod(0o644)
    with pytest.raises(StackError, match="chmod 600"):
        with_options(stack, None, Options(auth=True), print)


def test_a_lost_password_is_named(stack):
    with pytest.raises(StackError, match="cannot be read from"):
        environment(replace(stack, auth=True))


def test_a_stack_that_runs_is_not_changed_by_other_options(stack):
    refuse_other_options(stack, Options())
    refuse_other_options(stack, Options(database="sqlite", auth=False, public_url=""))
    for options in (
        Options(database="postgres"),
        Options(auth=True),
        Options(public_url="http://a"),
    ):
        with pytest.raises(StackError, match=r"runs already, with another --.* down` first"):
            refuse_other_options(stack, options)


def answers(app, headers, path="/"):
    """Status and what reached the app, of one request."""
    sent, reached = [], []

    async def inner(scope, receive, send):
        reached.append(scope["type"])

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(PasswordRequired(inner, "fedloom:word")(scope, None, send))
    return sent[0]["status"] if sent else None, reached


def test_mlflow_wants_the_password_and_nothing_else_passes():
    right = b"Basic ZmVkbG9vbTp3b3Jk"  # fedloom:word
    assert answers(None, [(b"authorization", right)]) == (None, ["http"])
    assert answers(None, [], "/health") == (None, ["http"])
    for wrong in (b"", b"Basic ", b"Basic ZmVkbG9vbTp3b3JL", b"Bearer ZmVkbG9vbTp3b3Jk"):
        assert answers(None, [(b"authorization", wrong)]) == (401, [])
    assert answers(None, [], "/health/../api") == (401, [])


# -- the proxy ----------------------------------------------------------------------------------


def test_a_public_name_is_no_foreign_name(stack):
    seen = service_environment(replace(stack, public_url="https://fl.example:8443"), {})
    assert seen["FEDLOOM_PUBLIC_HOST"] == "fl.example"
    assert "fl.example:8443" in seen["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert "https://fl.example:8443" in seen["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert seen["PREFECT_UI_URL"] == "https://fl.example:8443"
    assert "FEDLOOM_PUBLIC_HOST" not in service_environment(stack, {})


@pytest.mark.parametrize("url", ["fl.example", "ftp://fl.example", "https://fl.example/prefect"])
def test_a_public_url_is_a_name_without_a_path(stack, url):
    with pytest.raises(StackError, match="must read https://NAME"):
        with_options(stack, None, Options(public_url=url), print)


def test_the_site_names_this_stack_and_leaves_nothing_open(stack):
    stack = replace(stack, public_url="https://fl.example")
    pems = {"certificate": Path("/c.pem"), "key": Path("/k.pem")}
    site = site_config(stack, "443", "default-src 'self'", **pems)
    assert "proxy_pass http://127.0.0.1:4200;" in site
    assert "proxy_pass http://127.0.0.1:5000/;" in site
    assert "server_name fl.example;" in site and "listen 443 ssl;" in site
    assert "default-src 'self'" in site and "Strict-Transport-Security" in site
    assert "@" not in site.replace("@NAMES@", "")
    assert site.count("ssl_certificate /c.pem;") == 2
    main = write_proxy(stack.home / "proxy", site)
    assert f"include {main.parent}/site.conf;" in main.read_text()


def test_a_site_without_a_name_or_with_the_wrong_tls_is_refused(stack):
    def site(url):
        return site_config(replace(stack, public_url=url), "80", "", certificate=None, key=None)

    with pytest.raises(StackError, match="no public name"):
        site("")
    with pytest.raises(StackError, match="needs --certificate and --key"):
        site("https://fl.example")
    assert "ssl" not in site("http://fl.example").replace("sslmode", "")


def test_without_nginx_the_command_is_told(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(StackError, match=r"Debian: apt-get install .*nginx"):
        find_nginx()


def test_root_starts_postgresql_as_somebody_else():
    user = postgres.server_user()
    assert bool(user) == (os.geteuid() == 0)
