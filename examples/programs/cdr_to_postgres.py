"""Writes the call records of all agents into PostgreSQL, each exactly once.

    python3 cdr_to_postgres.py "host=127.0.0.1 dbname=billing user=cdr"

Needs psycopg2 (Debian: python3-psycopg2), and on the agents `cdr` = true and `events_delivery` = at_least_once, with a
stream that takes both: `event-agentctl stream create`. NATS_URL says where that is, DURABLE the name under which the
stream remembers what is stored (cdr-to-postgres), PATIENCE how many seconds PostgreSQL may say nothing (20). Start it
as often as you like: they share the records.

A record is acknowledged after PostgreSQL has committed it, and one that comes twice has the same key. So it may be
killed, and PostgreSQL, NATS, agents and FreeSWITCH may be restarted, at any moment: the stream keeps what is not
stored.
What PostgreSQL will not take goes into the table cdr_rejected, with the reason.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras

import event_agent_client as ea

Stored = ea.Record | ea.sync.Record
BATCH = 200  # records a transaction, at most
PATIENCE = float(os.environ.get("PATIENCE", "20"))  # seconds for which PostgreSQL may say nothing
TABLES = """
    create table if not exists cdr (
        key text primary key, node text not null, uuid text not null, other_uuid text, direction text,
        caller_name text, caller_number text, destination text, context text,
        created timestamptz, answered timestamptz, ended timestamptz, duration numeric(12,3), billsec numeric(12,3),
        cause text, sip_code integer, hung_up_by text, record jsonb not null);
    create table if not exists cdr_rejected (key text primary key, fault text not null, record text not null);
"""
AS_THEY_ARE = (
    "other_uuid", "direction", "caller_id_name", "caller_id_number", "destination", "context", "created", "answered",
    "ended", "duration", "billsec", "cause", "sip_code", "hung_up_by",
)  # fmt: skip
TIME = "timestamptz 'epoch' + %s * interval '1 microsecond'"
ROW = f"(%s, %s, %s, %s, %s, %s, %s, %s, %s, {TIME}, {TIME}, {TIME}, %s, %s, %s, %s, %s, %s)"


def wait(connection: Any) -> None:
    """As psycopg2 waits for PostgreSQL, but not without end: it may be frozen."""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        reads = [connection] if state == psycopg2.extensions.POLL_READ else []
        writes = [] if reads else [connection]
        if not any(select.select(reads, writes, [], PATIENCE)):
            raise psycopg2.OperationalError(f"PostgreSQL has said nothing for {PATIENCE:g} seconds")


def clean(value: Any) -> Any:
    """What PostgreSQL takes as a text: no NUL, nothing that is no UTF-8. Callers choose their names."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {clean(name): clean(each) for name, each in value.items()}
    return [clean(each) for each in value] if isinstance(value, list) else value


class Table:
    """The two tables; the connection is made when it is needed, and again after a loss."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._db: Any = None
        self.over = threading.Event()

    def store(self, records: Sequence[Stored]) -> int:
        """Returns how many were new, when all are committed: however long PostgreSQL takes to come back.

        Raises what PostgreSQL's last fault was once `over` is set.
        """
        pause = 0.5
        while True:
            try:
                return self._insert(records)
            except (psycopg2.OperationalError, psycopg2.InterfaceError) as fault:
                say(f"PostgreSQL: {str(fault).strip()}; again in {pause:g} s")
                self.close()
                if self.over.wait(pause):
                    raise
                pause = min(pause * 2, 15.0)

    def _insert(self, records: Sequence[Stored]) -> int:
        if self._db is None:
            self._db = psycopg2.connect(self._dsn, connect_timeout=5)
            with self._db, self._db.cursor() as cursor:
                cursor.execute("select pg_advisory_xact_lock(hashtext('cdr_to_postgres'))")  # one makes the tables
                cursor.execute(TABLES)
        if not records:
            return 0
        rows = []
        for record in records:
            whole = clean(dict(record))
            columns = (whole.get(name) for name in AS_THEY_ARE)
            rows.append((clean(record.key), whole.get("node_id"), whole.get("uuid"), *columns, json.dumps(whole)))
        try:
            with self._db, self._db.cursor() as cursor:
                insert = "insert into cdr values %s on conflict (key) do nothing"
                psycopg2.extras.execute_values(cursor, insert, rows, ROW, page_size=BATCH)
                return int(cursor.rowcount)
        except (psycopg2.DataError, psycopg2.IntegrityError, psycopg2.ProgrammingError) as fault:
            if len(records) > 1:  # which of them is it?
                return sum(self._insert([record]) for record in records)
            self._reject(rows[0], str(fault))
            return 0

    def _reject(self, row: tuple[Any, ...], fault: str) -> None:
        say(f"record {row[0]} is rejected: {fault.splitlines()[0]}")
        with self._db, self._db.cursor() as cursor:
            insert = "insert into cdr_rejected values (%s, %s, %s) on conflict (key) do nothing"
            cursor.execute(insert, (row[0], fault, row[-1]))

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


async def batches(cdrs: ea.Cdrs) -> AsyncIterator[list[ea.Record]]:
    """One record when it comes, with those that wait behind it."""
    while (record := await cdrs.next()) is not None:
        batch = [record]
        while len(batch) < BATCH and (further := await cdrs.next(0)) is not None:
            batch.append(further)
        yield batch


async def collect(fs: ea.Client, table: Table, durable: str) -> None:
    async with fs.cdrs(durable) as cdrs:
        await asyncio.to_thread(table.store, [])
        say("ready")
        async for batch in batches(cdrs):
            new = await asyncio.to_thread(table.store, batch)
            say(f"stored {new}" + (f", {len(batch) - new} known or rejected" if new < len(batch) else ""))
            for record in batch:
                try:
                    await record.ack()
                except (ea.LinkError, ea.NoReply) as error:  # it comes again, and is known then
                    say(f"record {record.key} is stored, not acknowledged: {error}")


def settings() -> tuple[Table, str]:
    """The table, and the durable name."""
    psycopg2.extensions.set_wait_callback(wait)
    dsn = sys.argv[1] if len(sys.argv) > 1 else "dbname=cdr"
    return Table(dsn), os.environ.get("DURABLE", "cdr-to-postgres")


def say(text: str) -> None:
    print(text, flush=True)


async def main() -> None:
    table, durable = settings()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
    try:
        while True:
            try:
                async with ea.connect(connect_wait=60, prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
                    await collect(fs, table, durable)
            except ea.ConfigError:
                raise
            except ea.AgentError as error:  # no NATS server, no stream, no JetStream: none yet
                say(f"{type(error).__name__}: {error}; again in 2 s")
                await asyncio.sleep(2)
    finally:
        table.over.set()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
