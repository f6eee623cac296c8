"""Delta tables under a storage root, read with PyPI's deltalake (delta-rs, but none of Trireme's code) into DuckDB."""

import os

import deltalake
import duckdb
import pyarrow


def connect():
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    return db


def names(lake):
    """Names of all tables under a folder, `schema.table`."""
    tables = os.path.join(lake, "tables")
    return sorted(
        f"{schema}.{table}"
        for schema in (os.listdir(tables) if os.path.isdir(tables) else [])
        for table in os.listdir(os.path.join(tables, schema))
        if os.path.isdir(os.path.join(tables, schema, table, "_delta_log"))
    )


def path(lake, name):
    schema, table = name.split(".")
    return os.path.join(lake, "tables", schema, table)


def read(lake, name):
    """A table's rows as Arrow. QueryBuilder, because to_pyarrow_table refuses deletion vectors."""
    table = deltalake.DeltaTable(path(lake, name))
    rows = deltalake.QueryBuilder().register("t", table).execute("SELECT * FROM t").read_all()
    return pyarrow.table(rows)


def load(db, view, rows):
    """Makes rows a DuckDB table; instants become microseconds since 1970, so that no engine's time zone matters."""
    db.register("incoming", rows)
    kinds = {name: kind for name, kind, *_ in db.execute("DESCRIBE incoming").fetchall()}
    columns = ", ".join(
        f'epoch_us("{name}") AS "{name}"' if kind.startswith("TIMESTAMP") else f'"{name}"' for name, kind in kinds.items()
    )
    db.execute(f"CREATE TABLE {view} AS SELECT {columns} FROM incoming")
    db.unregister("incoming")


def columns(db, view):
    return [name for name, *_ in db.execute(f"DESCRIBE {view}").fetchall()]


def checksums(db, view):
    """The number of rows, and a sum of hashes for each column, which no order of rows changes."""
    sums = [f'CAST(coalesce(sum(hash("{name}")), 0) AS VARCHAR)' for name in columns(db, view)]
    count, *values = db.execute(f"SELECT {', '.join(['count(*)', *sums])} FROM {view}").fetchone()
    return {"rows": count, "columns": dict(zip(columns(db, view), values))}
