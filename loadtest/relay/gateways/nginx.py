"""nginx as a streaming reverse proxy: one worker, no buffering, kept upstream connections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import urlsplit

from loadtest.relay.gateways.base import CONNECTIONS, ProcessGateway, find_program, first_line

_CONFIG: Final = Template("""\
daemon off;
worker_processes 1;
worker_rlimit_nofile $files;
pid $scratch/nginx.pid;
error_log stderr error;
events { worker_connections $files; }
http {
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path $scratch/nginx-body;
  proxy_temp_path $scratch/nginx-proxy;
  fastcgi_temp_path $scratch/nginx-fastcgi;
  uwsgi_temp_path $scratch/nginx-uwsgi;
  scgi_temp_path $scratch/nginx-scgi;
  upstream engine { server $backend; keepalive 512; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:$port backlog=4096;
    location / {
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
""")


class Nginx(ProcessGateway):
    """The yardstick."""

    def __init__(self) -> None:
        super().__init__("nginx", interpreted=False)

    def available(self) -> str | None:
        """It needs the program."""
        return None if find_program("nginx") else "nginx is not installed"

    def version(self) -> str:
        """Return what `nginx -v` says."""
        return first_line([find_program("nginx") or "nginx", "-v"]).rpartition("/")[2]

    def command(self, backend_url: str, port: int, scratch: Path) -> Sequence[str]:
        """Write the configuration and return the command line."""
        config = scratch / "nginx.conf"
        config.write_text(
            _CONFIG.substitute(
                files=2 * CONNECTIONS, scratch=scratch, backend=urlsplit(backend_url).netloc, port=port
            )
        )
        return [find_program("nginx") or "nginx", "-p", str(scratch), "-e", "stderr", "-c", str(config)]
