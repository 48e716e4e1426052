"""PostgreSQL, the password, the reverse proxy and a backup, together in one stack of its own."""

import asyncio
import datetime
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import psycopg
import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deployments.care.backup import back_up
from deployments.care.restore import restore
from deployments.stack import postgres
from deployments.stack.browser import CONTENT_SECURITY_POLICY
from deployments.stack.credentials import authorization
from deployments.stack.database import database_names
from deployments.stack.lifecycle import bring_down, bring_up
from deployments.stack.options import Options, with_options
from deployments.stack.ports import choose_port
from deployments.stack.proxy import check_proxy, find_nginx, proxy_command, site_config, write_proxy
from deployments.stack.recovery import processes_of_runs
from deployments.stack.stack import StackError, auth_string, environment, read_stack
from deployments.steps import PROJECT
from fedcore.chain import Chain
from fedcore.engines.in_process import InProcessEngine
from fedcore.events import silent
from fedcore.plan import RunPlan
from fedcore.rounds import run_rounds
from fedcore.run import conclude
from fedcore.store import Store

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.xdist_group("server options")]

NAME = "fl.example"
ROUNDS = 10


def installed():
    try:
        postgres.find_programs(Path("/nonexistent"))
        find_nginx()
    except StackError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def folder():
    """Not pytest's own: PostgreSQL runs as another user than root and has to pass through."""
    if why := installed():
        pytest.skip(why)
    made = Path(tempfile.mkdtemp(prefix="fedloom-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def guarded(folder):
    """The stack, and where its proxy listens."""
    home, port = folder / "home", choose_port(8443)
    options = Options(database="postgres", auth=True, public_url=f"https://{NAME}:{port}")
    try:
        yield bring_up(home, options=options), port
    finally:
        bring_down(home)


@pytest.fixture(scope="module")
def proxied(guarded, folder):
    """A client that reaches the stack through nginx under its public name, knowing nothing else."""
    stack, port = guarded
    certificate, key = self_signed(folder)
    site = site_config(
        stack, f"127.0.0.1:{port}", CONTENT_SECURITY_POLICY, certificate=certificate, key=key
    )
    main = write_proxy(stack.home / "proxy", site)
    check_proxy(main)
    trust = ssl.create_default_context(cafile=str(certificate))
    server = subprocess.Popen(proxy_command(main), stderr=subprocess.PIPE)
    try:
        yield SimpleNamespace(
            port=port, trust=trust, get=lambda path, **more: through(trust, port, path, **more)
        )
    finally:
        server.terminate()
        server.wait(10)
        server.stderr.close()


def self_signed(folder):
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(encoding))
    pkcs8 = serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(encoding, pkcs8, plain))
    return files


def through(trust, port, path, *, host=None, **more):
    headers = {"Host": host or f"{NAME}:{port}", **more.pop("headers", {})}
    names = {"sni_hostname": NAME}
    transport = httpx.HTTPTransport(verify=trust, retries=5)
    with httpx.Client(transport=transport) as client:
        url = f"https://127.0.0.1:{port}{path}"
        return client.request("GET", url, headers=headers, extensions=names, **more)


@pytest.fixture(scope="module")
def finished(guarded, folder):
    """A run through the worker, with a backup taken after its first round and its final digest."""
    stack, _ = guarded
    demo = PROJECT / "configs" / "train_federated" / "demo.yaml"
    changes = (f"rounds.count={ROUNDS}", "partition.clients=3", "training.epochs=3")
    words = ["run", demo, *(word for one in changes for word in ("-o", one))]
    outer = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    target = folder / "backup.tar.gz"
    with subprocess.Popen(
        [Path(sys.executable).with_name("fedloom"), *map(str, words)],
        cwd=folder,
        env={**outer, "FEDLOOM_HOME": str(stack.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as command:
        runs = stack.home / "store" / "runs"
        while command.poll() is None and not list(runs.glob("*/rounds/000001.json")):
            time.sleep(0.05)
        with standing_still(stack.home):  # else a slow backup finds it finished
            back_up(stack.home, target, read_stack(stack.home), tell=lambda step: None)
        said = command.communicate(timeout=300)[0]
    assert command.returncode == 0, said
    (run_id,) = {path.name for path in runs.iterdir()}
    digest = re.search(r"final digest\s+(\w+)", said)[1]
    return SimpleNamespace(id=run_id, digest=digest, said=said, backup=target)


@contextmanager
def standing_still(home):
    """The processes of the home's runs do nothing in this block."""
    processes = [one for found in processes_of_runs(home).values() for one in found]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def test_servers_want_the_password(guarded):
    stack, _ = guarded
    urls = (f"{stack.prefect_api_url}/admin/version", f"{stack.mlflow_url}/version")
    for url in urls:
        assert httpx.get(url, trust_env=False).status_code == 401
        wrong = httpx.get(url, auth=("fedloom", "guess"), trust_env=False)
        assert wrong.status_code == 401
        assert httpx.get(url, headers=authorization(stack), trust_env=False).status_code == 200


def test_the_proxy_shows_both_under_one_name_and_policy(guarded, proxied):
    stack, _ = guarded
    for path, shows in (("/", "Prefect"), ("/mlflow/", "MLflow")):
        page = proxied.get(path, headers=authorization(stack))
        assert page.status_code == 200 and shows in page.text
        assert page.headers.get_list("content-security-policy") == [CONTENT_SECURITY_POLICY]
        assert page.headers["x-frame-options"] == "DENY"
        assert "strict-transport-security" in page.headers
    assert proxied.get("/api/admin/version").status_code == 401
    allowed = proxied.get("/api/admin/version", headers=authorization(stack))
    assert allowed.json() == "3.8.8"
    search = "/mlflow/ajax-api/2.0/mlflow/experiments/search?max_results=1"
    assert "experiments" in proxied.get(search, headers=authorization(stack)).json()
    assert proxied.get("/ui-settings").json()["api_url"] == "/api"


def test_foreign_names_are_refused_before_and_behind_the_proxy(guarded, proxied):
    stack, _ = guarded
    assert proxied.get("/", host="elsewhere.example").status_code == 421
    foreign = {"Host": "elsewhere.example", **authorization(stack)}
    for url in (f"{stack.prefect_api_url}/health", f"{stack.mlflow_url}/api/2.0/mlflow/runs/get"):
        assert httpx.get(url, headers=foreign, trust_env=False).status_code in {400, 403}


def test_websockets_pass_the_proxy_with_the_password_only(guarded, proxied):
    stack, port = guarded

    async def ask(token):
        url = f"wss://{NAME}:{port}/api/events/out"
        way = {"host": "127.0.0.1", "port": port, "ssl": proxied.trust, "proxy": None}
        async with websockets.connect(url, subprotocols=["prefect"], **way) as socket:
            await socket.send(json.dumps({"type": "auth", "token": token}))
            return json.loads(await socket.recv())["type"]

    assert asyncio.run(ask(auth_string(stack.home))) == "auth_success"
    with pytest.raises(websockets.ConnectionClosed):
        asyncio.run(ask("fedloom:guess"))


def test_a_run_completes_and_its_secrets_are_nowhere(guarded, finished, monkeypatch):
    stack, _ = guarded
    assert "final digest" in finished.said
    secrets = [
        auth_string(stack.home).partition(":")[2],
        authorization(stack)["Authorization"].removeprefix("Basic "),
        (stack.home / "secrets" / "pgpass").read_text().strip().rpartition(":")[2],
    ]
    assert not any(secret in finished.said for secret in secrets)
    for path in stack.home.rglob("*"):
        is_cluster = (stack.home / "postgres") in path.parents
        if path.is_file() and path.parent.name != "secrets" and not is_cluster:
            assert not [s for s in secrets if s.encode() in path.read_bytes()], path
    for process in psutil.process_iter(["cmdline"]):
        assert not [s for s in secrets if s in " ".join(process.info["cmdline"] or ())]
    rows = 0
    for name in database_names(stack).values():
        with psycopg.connect(postgres._libpq_url(stack, name)) as database:
            tables = database.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
                "WHERE schemaname = 'public'"
            ).fetchall()
            for (table,) in tables:
                rows += database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for secret in secrets:
                    found = database.execute(
                        f"SELECT count(*) FROM {table} t WHERE position(%s in t::text) > 0",
                        [secret],
                    ).fetchone()
                    assert found == (0,), table
    assert rows > 100  # there was something to search


def test_a_second_up_keeps_the_choice_and_no_other_is_taken(guarded):
    stack, _ = guarded
    again = bring_up(stack.home, tell=lambda step: None)
    assert (again.database, again.auth) == ("postgres", True)
    with pytest.raises(StackError, match="another --db"):
        bring_up(stack.home, options=Options(database="sqlite"))
    with pytest.raises(StackError, match="has its runs and models in postgres"):
        with_options(stack, stack, Options(database="sqlite"), print)


def test_a_backup_of_a_run_goes_on_elsewhere_to_the_same_digest(guarded, finished, folder):
    stack, _ = guarded
    new = folder / "new"
    restore(finished.backup, new, tell=lambda step: None)
    again = with_options(read_stack(new), read_stack(new), Options(), lambda step: None)
    words = postgres.server_command(again)
    user = postgres.server_user()
    server = subprocess.Popen(
        words, cwd=new / "postgres", stderr=subprocess.DEVNULL, **({"user": user} if user else {})
    )
    try:
        assert set(postgres.create_databases(again)) == set(database_names(again).values())
        assert not (new / "dumps").exists()
        with psycopg.connect(postgres._libpq_url(again, "fedloom_prefect")) as database:
            row = database.execute(
                "SELECT state_type::text FROM flow_run WHERE id = %s", [finished.id]
            ).fetchone()
        assert row == ("RUNNING",)
    finally:
        server.send_signal(2)
        server.wait(30)
    assert auth_string(new) != auth_string(stack.home)
    store = Store(new / "store")
    chain = Chain(store, finished.id)
    plan = RunPlan.from_header(chain.header())
    assert 1 <= sum(1 for _ in chain.records()) < ROUNDS
    engine = InProcessEngine(store, new / "cache")
    for _ in run_rounds(plan, chain, engine, silent):
        pass
    assert conclude(plan, chain, engine).final_digest == finished.digest


def test_the_environment_of_a_shell_reads_the_password_from_its_file(guarded):
    stack, _ = guarded
    fedloom = Path(sys.executable).with_name("fedloom")
    outer = {**os.environ, "FEDLOOM_HOME": str(stack.home)}
    shown = subprocess.run([fedloom, "stack", "env"], env=outer, capture_output=True, text=True)
    assert auth_string(stack.home).partition(":")[2] not in shown.stdout
    words = f'eval "$({fedloom} stack env)"; env'
    done = subprocess.run(["sh", "-c", words], env=outer, capture_output=True, text=True)
    for name, value in environment(stack).items():
        assert f"{name}={value}" in done.stdout.splitlines()
