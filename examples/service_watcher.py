"""A client of a service that follows its instances: it learns of each change when it happens.

Run it beside service_instance.py:  python examples/service_watcher.py [ENDPOINTS]
"""

from __future__ import annotations

import signal
import sys

from coordclient import Client


def run(endpoints: str) -> None:
    with Client(endpoints, session_timeout=2.0) as client:
        for instances in client.services.watch("api", passing=True):
            if instances.is_stale:  # Nobody can be reached: what was known last is the best guess.
                print("not up to date", flush=True)
                continue
            ports = sorted(instance.port for instance in instances)
            print(f"instances {','.join(map(str, ports)) or 'none'}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7400")
