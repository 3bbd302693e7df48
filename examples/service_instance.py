"""One instance of a service: it registers, serves, and is gone from the registry when it is gone.

Run it a few times beside service_watcher.py:  python examples/service_instance.py PORT [ENDPOINTS]
"""

from __future__ import annotations

import signal
import sys
import threading

from coordclient import Client


def run(port: int, endpoints: str) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Client(endpoints, session_timeout=2.0) as client:
        # If the session is ever lost, the registration comes back by itself with the next one.
        registration = client.services.register("api", "127.0.0.1", port, payload={"zone": "a"})
        print(f"registered port={port}", flush=True)
        stop.wait()
        # Consumers hear that nothing new should come, and what is under way may end. Then it is taken back.
        registration.drain(seconds=0.2)


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:7400")
