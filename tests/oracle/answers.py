"""The six answers of books and movies, computed by DuckDB from the raw files alone.

usage: answers.py DIR [DIR...]

Each DIR is one delivery: authors.json, books.json, reviews.json (an array, or one object a line), streams.csv, users.csv,
movies.csv. With several, in the order they came, stream.* is what the last one holds, and vendor.* is merged by key.
The answers are printed as one JSON document. Needs PyPI's duckdb and nothing else.

It is written to share as little as can be with the pipeline's own SQL: instants are whole milliseconds from the start,
taken from the text by hand, and sums are exact.
"""

import json
import os
import sys

import duckdb

HOUR = 3_600_000
DAY = 24 * HOUR
# 1 December 2021, 00:00 at +01:00, in milliseconds since 1970.
MONTH = 1_638_313_200_000
CHRISTMAS = MONTH + 24 * DAY


def delivered(folders, file, reader, columns, select):
    """One query over a file of all deliveries, `delivery` being the number of the folder."""
    names = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    parts = []
    for number, folder in enumerate(folders):
        path = os.path.join(folder, file).replace("'", "''")
        parts.append(f"SELECT {number} AS delivery, {select} FROM {reader.format(path=path, columns=names)}")
    return " UNION ALL ".join(parts)


def instant(column):
    """Milliseconds since 1970 of a text such as 2021-12-25T07:00:00.000+0100."""
    return (
        f"(epoch_ms(CAST(replace(substr({column}, 1, 23), 'T', ' ') AS TIMESTAMP))"
        f" - CAST(substr({column}, 24, 3) AS BIGINT) * {HOUR}"
        f" - CAST(substr({column}, 24, 1) || substr({column}, 27, 2) AS BIGINT) * 60000)"
    )


def latest(rows, key):
    """What an upsert by key leaves: of each key, the row of its last delivery."""
    return (
        f"SELECT * FROM ({rows}) WHERE {key} IS NOT NULL"
        f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY delivery DESC) = 1"
    )


def main(folders):
    db = duckdb.connect()
    db.execute("SET preserve_insertion_order = false")
    csv = "read_csv('{path}', header = true, delim = ',', quote = '\"', escape = '\"', columns = {{{columns}}})"
    dump = "read_json('{path}', format = 'auto', columns = {{{columns}}})"

    streams = delivered(
        folders[-1:], "streams.csv", csv,
        dict.fromkeys(["movie_title", "user_email", "size_mb", "start_at", "end_at"], "VARCHAR"),
        f"lower(movie_title) AS movie, user_email AS email, CAST(size_mb AS DOUBLE) AS mb,"
        f" {instant('start_at')} AS start, {instant('end_at')} AS stop",
    )
    movies = delivered(
        folders[-1:], "movies.csv", csv,
        dict.fromkeys(["title", "duration_mins", "original_language", "size_mb"], "VARCHAR"),
        "lower(title) AS title, CAST(duration_mins AS BIGINT) AS minutes",
    )
    books = delivered(
        folders, "books.json", dump, {"name": "VARCHAR", "author": "VARCHAR"},
        "lower(name) AS title, lower(author) AS author",
    )
    authors = delivered(
        folders, "authors.json", dump,
        {"metadata": "STRUCT(name VARCHAR)", "nationalities": "STRUCT(label VARCHAR)[]"},
        "lower(metadata.name) AS name, nationalities",
    )
    db.execute(f"CREATE TABLE streams AS {streams}")
    db.execute(f"CREATE TABLE movies AS {movies}")
    db.execute(f"CREATE TABLE books AS {latest(books, 'title')}")
    db.execute(f"CREATE TABLE authors AS {latest(authors, 'name')}")

    def one(sql):
        return db.execute(sql).fetchone()

    def share(titles):
        count, booked = one(f"SELECT count(*), count(*) FILTER (title IN (SELECT title FROM books)) FROM ({titles})")
        return {"movies": count, "based_on_books": booked, "percentage": round(100 * booked / count, 2)}

    users, sessions = one(
        f"SELECT count(DISTINCT email), count(*) FROM streams WHERE movie = 'unforgiven'"
        f" AND NOT (start >= {CHRISTMAS + 12 * HOUR} OR stop <= {CHRISTMAS + 7 * HOUR})"
    )
    (singaporean,) = one(
        f"SELECT count(DISTINCT movie) FROM streams WHERE start BETWEEN {MONTH} AND {MONTH + 31 * DAY - 1}"
        " AND movie IN (SELECT title FROM books WHERE author IN (SELECT name FROM"
        " (SELECT name, unnest(nationalities).label AS label FROM authors) WHERE lower(label) = 'singaporeans'))"
    )
    count, total = one("SELECT count(*), sum(stop - start) FROM streams")
    (median,) = one(
        "SELECT avg(mb) FROM (SELECT mb, row_number() OVER (ORDER BY mb) AS place, count(*) OVER () AS size FROM streams)"
        " WHERE place IN ((size + 1) // 2, size // 2 + 1)"
    )
    (watchers,) = one(
        f"SELECT count(DISTINCT email) FROM streams JOIN movies ON title = movie"
        f" WHERE start BETWEEN {MONTH + 24 * DAY} AND {MONTH + 31 * DAY - 1} AND 2 * (stop - start) >= 60000 * minutes"
    )
    return {
        "movies_based_on_books": {
            "streamed": share("SELECT DISTINCT movie AS title FROM streams"),
            "catalogue": share("SELECT DISTINCT title FROM movies"),
        },
        "unforgiven_outage": {"affected_users": users, "affected_sessions": sessions},
        "singaporean_authors_movies": {"streamed_movies": singaporean},
        "average_streaming_duration": {"sessions": count, "average_minutes": round(int(total) / count / 60_000, 6)},
        "median_streaming_size": {"median_gb": round(median / 1_000, 6)},
        "half_watched_last_week": {"users": watchers},
    }


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    print(json.dumps(main(sys.argv[1:]), indent=2))
