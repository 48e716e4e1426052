"""nginx before a stack: one name, TLS, one content security policy for Prefect and MLflow.

https://nginx.org/en/docs/http/ngx_http_proxy_module.html
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from deployments.stack.stack import LOOPBACK, Stack, StackError

DEBIAN = "apt-get install --no-install-recommends nginx-light"
TEMPLATE = Path(__file__).parent.parent / "proxy" / "nginx-site.conf"
GATEWAY_TEMPLATE = TEMPLATE.with_name("nginx-gateway.conf")

# As an ordinary user, beside whatever nginx the machine runs: everything lies in its own folder.
MAIN = """\
# Written by `fedloom stack proxy`: nginx for this stack alone.
daemon off;
worker_processes 1;
pid @FOLDER@/nginx.pid;
error_log @FOLDER@/error.log warn;
events {
    worker_connections 512;
}
http {
    access_log off; # the servers behind it log
    client_body_temp_path @FOLDER@/tmp-body;
    proxy_temp_path @FOLDER@/tmp-proxy;
    fastcgi_temp_path @FOLDER@/tmp-fastcgi;
    uwsgi_temp_path @FOLDER@/tmp-uwsgi;
    scgi_temp_path @FOLDER@/tmp-scgi;
    include @FOLDER@/site.conf;
}
"""


def site_config(
    stack: Stack, listen: str, policy: str, *, certificate: Path | None, key: Path | None
) -> str:
    """The ``server`` blocks for this stack, to be included in nginx's ``http`` block.

    Args:
      stack: with a public URL.
      listen: address and port where nginx listens, e.g. ``443`` or ``127.0.0.1:8443``.
      policy: content security policy of all pages.
      certificate, key: PEM files; without them nginx speaks plain HTTP.

    Raises:
      StackError: no public URL, or TLS and the URL do not agree.
    """
    if not stack.public_url:
        raise StackError(
            "This stack has no public name, so it would refuse what the proxy passes on. "
            "`fedloom stack down`, then `fedloom stack up --public-url https://NAME`."
        )
    public = urlsplit(stack.public_url)
    is_tls = certificate is not None and key is not None
    if is_tls != (public.scheme == "https"):
        wants = "needs --certificate and --key" if public.scheme == "https" else "has no TLS"
        raise StackError(f"The public name {stack.public_url} {wants}.")
    tls = _tls(certificate, key) if is_tls else ""
    hsts = "    add_header Strict-Transport-Security max-age=31536000 always;\n" if is_tls else ""
    values = {
        "LISTEN": f"{_plain(listen)} ssl" if is_tls else _plain(listen),
        "HOST": public.hostname or "",
        "TLS": tls,
        "HSTS": hsts,
        "POLICY": policy,
        "PREFECT": f"{LOOPBACK}:{stack.prefect_port}",
        "MLFLOW": f"{LOOPBACK}:{stack.mlflow_port}",
    }
    return _filled(TEMPLATE.read_text(encoding="utf-8"), values)


def gateway_config(
    stack: Stack, listen: str, most_bytes: int, *, certificate: Path | None, key: Path | None
) -> str:
    """Further ``server`` blocks, to follow those of ``site_config``: the gateway of sites over TLS.

    Args:
      stack: with a public URL and a gateway.
      listen: address and port where nginx listens, another than the stack's own.
      most_bytes: of one request.
      certificate, key: PEM files of the public name.

    Raises:
      StackError: no TLS; tokens of sites would travel in the open.
    """
    if certificate is None or key is None:
        raise StackError("The gateway of sites is served over TLS only: --certificate and --key.")
    values = {
        "LISTEN": f"{_plain(listen)} ssl",
        "HOST": urlsplit(stack.public_url).hostname or "",
        "TLS": _tls(certificate, key),
        "MOST": str(most_bytes),
        "GATEWAY": f"{LOOPBACK}:{stack.gateway_port}",
    }
    return _filled(GATEWAY_TEMPLATE.read_text(encoding="utf-8"), values)


def write_proxy(folder: Path, site: str) -> Path:
    """``site.conf`` and a whole ``nginx.conf`` around it in ``folder``; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    _plain(str(folder))
    (folder / "site.conf").write_text(site, encoding="utf-8")
    main = folder / "nginx.conf"
    main.write_text(_filled(MAIN, {"FOLDER": str(folder)}), encoding="utf-8")
    return main


def check_proxy(main: Path) -> str:
    """What nginx says of its configuration.

    Raises:
      StackError: nginx is not installed, or refuses it.
    """
    done = subprocess.run([*proxy_command(main), "-t"], capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip()
    if done.returncode:
        raise StackError(f"nginx refuses {main}:\n{said}")
    return said


def proxy_command(main: Path) -> list[str]:
    """nginx with this configuration, in the foreground."""
    folder = main.parent
    return [find_nginx(), "-p", f"{folder}/", "-e", f"{folder}/error.log", "-c", str(main)]


def find_nginx() -> str:
    """The program.

    Raises:
      StackError: it is not installed.
    """
    # Debian keeps it where ordinary users do not look.
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise StackError(
            f"nginx is not installed. Debian: {DEBIAN}, then disable the site that it comes with "
            "(rm /etc/nginx/sites-enabled/default)."
        )
    return found


def _tls(certificate: Path | None, key: Path | None) -> str:
    return f"    ssl_certificate {certificate};\n    ssl_certificate_key {key};"


def _filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _plain(text: str) -> str:
    if special := set(text) & set("{};\"'$ \n"):
        raise StackError(f"{text!r} has {sorted(special)} in it, which nginx cannot read.")
    return text
