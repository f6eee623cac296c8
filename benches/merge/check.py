"""What tables hold, told by DuckDB and delta-rs. Run by run.py in the interpreter of `deltalake`; prints JSON.

check.py raw TABLE FILE…    [rows, checksum] of what merging these deliveries, in this order, must give
check.py table TABLE LAKE   [rows, checksum] of the table
check.py answers LAKE       the rows of each answer, decimals rounded
"""

import json
import sys
from pathlib import Path

from peers import KEYS, DuckDb, location

# The same for any reader's or writer's choice of types and order of rows.
HASHES = {
    "streams": "hash(epoch_us(start_at), epoch_us(end_at), movie_title::varchar, user_email::varchar, size_mb::double)",
    "reviews": "hash(text::varchar, rate_value::bigint, book_titles::varchar[], movie_titles::varchar[], epoch_us(created_at))",
}


def deliveries(peer, table, files):
    """SQL for key, number of the delivery (from 0) and checksum of each raw row."""
    return " UNION ALL ".join(f"SELECT epoch_us({KEYS[table]}) AS key, {number} AS delivery, {HASHES[table]} AS row FROM ({peer.select(table, file)})"
                              for number, file in enumerate(files))


def merged(db, rows):
    """[rows, checksum] of the last row of each key."""
    count, checksum = db.sql(f"SELECT count(*), sum(row) FROM (SELECT arg_max(row, delivery) AS row FROM ({rows}) GROUP BY key)").fetchall()[0]
    return [count, str(checksum)]


def rows_of(db, path):
    """A relation with the live rows of a Delta table."""
    from deltalake import DeltaTable, QueryBuilder
    table = DeltaTable(path)
    if "deletionVectors" not in (table.protocol().reader_features or []):
        return db.read_parquet(table.file_uris())
    import pyarrow
    live = QueryBuilder().register("live", table).execute("SELECT * FROM live")
    return db.from_arrow(pyarrow.RecordBatchReader.from_stream(live))


def contents(table, lake):
    db = DuckDb().db
    live = rows_of(db, location(lake, table))
    rows, checksum = live.aggregate(f"count(*), sum({HASHES[table]})").fetchall()[0]
    return [rows, str(checksum)]


def answers(lake):
    db = DuckDb().db

    def cell(value):
        return round(value, 4) if isinstance(value, float) else value
    return {path.name: sorted([list(map(cell, row)) for row in rows_of(db, str(path)).fetchall()], key=str)
            for path in sorted(Path(lake, "tables/analytics").iterdir())}


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "raw":
        peer = DuckDb()
        print(json.dumps(merged(peer.db, deliveries(peer, arguments[0], arguments[1:]))))
    elif what == "table":
        print(json.dumps(contents(*arguments)))
    else:
        print(json.dumps(answers(*arguments)))
