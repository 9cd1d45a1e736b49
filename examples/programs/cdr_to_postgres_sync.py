"""cdr_to_postgres.py with threads; the tables are the same, and so is what is said of it there.

    python3 cdr_to_postgres_sync.py "host=127.0.0.1 dbname=billing user=cdr"
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from cdr_to_postgres import BATCH, Table, say, settings

import event_agent_client as ea


def batches(cdrs: ea.sync.Cdrs) -> Iterator[list[ea.sync.Record]]:
    """One record when it comes, with those that wait behind it."""
    while (record := cdrs.next()) is not None:
        batch = [record]
        while len(batch) < BATCH and (further := cdrs.next(0)) is not None:
            batch.append(further)
        yield batch


def collect(fs: ea.sync.Client, table: Table, durable: str) -> None:
    with fs.cdrs(durable) as cdrs:
        table.store([])
        say("ready")
        for batch in batches(cdrs):
            new = table.store(batch)
            say(f"stored {new}" + (f", {len(batch) - new} known or rejected" if new < len(batch) else ""))
            for record in batch:
                try:
                    record.ack()
                except (ea.LinkError, ea.NoReply) as error:  # it comes again, and is known then
                    say(f"record {record.key} is stored, not acknowledged: {error}")


def main() -> None:
    table, durable = settings()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    while True:
        try:
            with ea.sync.connect(connect_wait=60, prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
                collect(fs, table, durable)
        except ea.ConfigError:
            raise
        except ea.AgentError as error:  # no NATS server, no stream, no JetStream: none yet
            say(f"{type(error).__name__}: {error}; again in 2 s")
            time.sleep(2)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
