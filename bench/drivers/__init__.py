"""Programs that drive a system: each measures by itself and prints one line of JSON.

    DRIVER --endpoints A,B,C --operation KIND --connections C --in-flight N --value-bytes B \
           --seconds S --keys K

It connects, writes its keys, warms up for a second, measures for S seconds, and prints

    {"operations": n, "seconds": s, "p50_ms": x, "p99_ms": x, "max_ms": x, "errors": 0,
     "measured_from": unix_s, "measured_to": unix_s}

Counted are the operations that were acknowledged between the two moments. `--in-flight` is per
connection: as soon as one operation is answered, the next is sent. Connection i goes to endpoint i modulo
their number and stays there. Keys are `/bench/0` and so on, taken in turn.

KIND is `write` (durable), `read` (linearizable), `session-read` (answered by the member that is asked),
`mixed` (`--read-share`, 0.9, of linearizable reads, and writes), or `transaction` (five writes, all or
none).

An operation that fails is told on stderr, and either counted in `errors` or ends the driver with exit code 1.

Rule of this package: a driver does for its system what that system's own documentation shows, with the
client's defaults, and nothing that the other drivers do not do too.
"""
