"""Compares Delta tables, row for row, with what DuckDB makes of the raw files.

usage: tables.py LAKE DIR [DIR...] [--table NAME=SHAPE/MODE]... [--query NAME=FILE]...

LAKE is a storage root on disk; each DIR is one delivery, in the order they came. Without --table and --query the six tables of the
pipeline are compared. SHAPE is one of authors, books, reviews, streams, users, movies: the columns that the pipeline file gives the
table of that name. MODE is overwrite (what the last delivery holds) or merge (of each key, the row of its last delivery).
--query compares a question's table with the rows that DuckDB gives for the same SQL over LAKE's other tables.

Counts, key sets, a checksum per column and the rows themselves are compared; they are printed as one JSON document. Exit code 1: they
differ, and stderr says how. Needs PyPI's duckdb, deltalake and pyarrow.
"""

import argparse
import json
import sys

import answers
import deltas

CSV = (
    "read_csv('{path}', header = true, delim = ',', quote = '\"', escape = '\"', allow_quoted_nulls = false,"
    " columns = {{{columns}}})"
)
DUMP = "read_json('{path}', format = 'auto', maximum_object_size = 67108864, columns = {{{columns}}})"


def micros(column):
    return f"1000 * {answers.instant(column)}"


def text(*names):
    return dict.fromkeys(names, "VARCHAR")


# Of each shape: file, reader, raw columns, key, rows that have one, and what the pipeline file makes of them.
SHAPES = {
    "authors": (
        "authors.json", DUMP,
        {
            "metadata": "STRUCT(name VARCHAR, birth_date VARCHAR, died_at VARCHAR)",
            "nationalities": "STRUCT(label VARCHAR)[]",
        },
        ["name"], "metadata.name IS NOT NULL",
        {
            "name": "lower(metadata.name)",
            "birth_date": micros("metadata.birth_date"),
            "died_at": micros("metadata.died_at"),
            "nationality_labels": "list_transform(nationalities, lambda x: lower(x.label))",
        },
    ),
    "books": (
        "books.json", DUMP,
        {"name": "VARCHAR", "author": "VARCHAR", "publisher": "VARCHAR", "pages": "INTEGER"},
        ["name"], "true",
        {"name": "lower(name)", "author": "lower(author)", "publisher": "lower(publisher)", "pages": "pages"},
    ),
    "reviews": (
        "reviews.json", DUMP,
        {
            "content": "STRUCT(text VARCHAR)",
            "rating": "STRUCT(rate INTEGER)",
            "books": "STRUCT(metadata STRUCT(title VARCHAR))[]",
            "movies": "STRUCT(title VARCHAR)[]",
            "created": "VARCHAR",
        },
        ["created_at"], "created IS NOT NULL",
        {
            "text": "lower(content.text)",
            "rate_value": "rating.rate",
            "book_titles": "list_transform(books, lambda x: lower(x.metadata.title))",
            "movie_titles": "list_transform(movies, lambda x: lower(x.title))",
            "created_at": micros("created"),
        },
    ),
    "streams": (
        "streams.csv", CSV, text("movie_title", "user_email", "size_mb", "start_at", "end_at"),
        ["start_at"], "true",
        {
            "start_at": micros("start_at"),
            "end_at": micros("end_at"),
            "movie_title": "lower(movie_title)",
            "user_email": "user_email",
            "size_mb": "CAST(size_mb AS DOUBLE)",
        },
    ),
    "users": (
        "users.csv", CSV, text("first_name", "last_name", "email"),
        ["first_name", "last_name"], "true",
        {"first_name": "lower(first_name)", "last_name": "lower(last_name)", "email": "email"},
    ),
    "movies": (
        "movies.csv", CSV, text("title", "duration_mins", "original_language", "size_mb"),
        ["title"], "true",
        {
            "title": "lower(title)",
            "duration_mins": "CAST(duration_mins AS INTEGER)",
            "original_language": "lower(original_language)",
            "size_mb": "CAST(size_mb AS DOUBLE)",
        },
    ),
}

PIPELINE = {
    "vendor.authors": "authors/merge",
    "vendor.books": "books/merge",
    "vendor.reviews": "reviews/merge",
    "stream.streams": "streams/overwrite",
    "stream.users": "users/overwrite",
    "stream.movies": "movies/overwrite",
}


def expected(folders, shape, mode):
    """SQL for the rows that a table should hold, and its key."""
    file, reader, raw, key, where, made = SHAPES[shape]
    inner = ", ".join(f'"{name}" AS raw_{name}' for name in raw)
    # Raw and result columns may have the same name; an alias must not be taken for a column in another expression.
    deliveries = folders if mode == "merge" else folders[-1:]
    rows = answers.delivered(deliveries, file, reader, raw, inner)
    renamed = ", ".join(f'raw_{name} AS "{name}"' for name in raw)
    select = ", ".join(f'{expression} AS "{name}"' for name, expression in made.items())
    rows = f"SELECT delivery, {select} FROM (SELECT delivery, {renamed} FROM ({rows})) AS source WHERE {where}"
    keys = ", ".join(key)
    if mode == "merge":
        rows = f"SELECT * FROM ({rows}) QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY delivery DESC) = 1"
    return f"SELECT {', '.join(made)} FROM ({rows})", keys


def compare(db, name, key):
    """Compares the DuckDB tables `expected` and `actual`; returns what was found, and a list of differences."""
    want, have = deltas.checksums(db, "expected"), deltas.checksums(db, "actual")
    differences = []
    if list(want["columns"]) != list(have["columns"]):
        return have, [f"{name}: columns {list(have['columns'])}, expected {list(want['columns'])}"]
    if want["rows"] != have["rows"]:
        differences.append(f"{name}: {have['rows']} rows, expected {want['rows']}")
    if key:
        (keys,) = db.execute(f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM actual)").fetchone()
        if keys != have["rows"]:
            differences.append(f"{name}: {have['rows']} rows have only {keys} keys")
    for column, checksum in want["columns"].items():
        if have["columns"][column] != checksum:
            differences.append(f"{name}: the checksum of column {column} differs")
    parts = [("missing", "expected", "actual"), ("surplus", "actual", "expected")]
    for what, one, other in parts:
        for columns in filter(None, [key, "*"]):
            rows = f"SELECT {columns} FROM {one} EXCEPT ALL SELECT {columns} FROM {other}"
            (count,) = db.execute(f"SELECT count(*) FROM ({rows})").fetchone()
            if count:
                examples = db.execute(f"SELECT * FROM ({rows}) LIMIT 3").fetchall()
                differences.append(f"{name}: {count} {what} {'rows' if columns == '*' else 'keys'}, such as {examples}")
    return have, differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--table", action="append", default=[])
    parser.add_argument("--query", action="append", default=[])
    arguments = parser.parse_args()
    tables = dict(pair.split("=", 1) for pair in arguments.table)
    queries = dict(pair.split("=", 1) for pair in arguments.query)
    if not tables and not queries:
        tables = PIPELINE

    found, differences = {}, []
    for name, shape in tables.items():
        db = deltas.connect()
        rows, key = expected(arguments.folders, *shape.split("/"))
        db.execute(f"CREATE TABLE expected AS {rows}")
        deltas.load(db, "actual", deltas.read(arguments.lake, name))
        found[name], different = compare(db, name, key)
        differences += different
    for name, file in queries.items():
        db = deltas.connect()
        for other in deltas.names(arguments.lake):
            if other != name:
                schema = other.split(".")[0]
                db.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                db.register("rows", deltas.read(arguments.lake, other))
                db.execute(f"CREATE TABLE {other} AS SELECT * FROM rows")
                db.unregister("rows")
        with open(file, encoding="utf-8") as sql:
            deltas.load(db, "expected", db.sql(sql.read()).to_arrow_table())
        deltas.load(db, "actual", deltas.read(arguments.lake, name))
        found[name], different = compare(db, name, None)
        differences += different
    print(json.dumps(found, indent=2))
    for difference in differences:
        print(difference, file=sys.stderr)
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
