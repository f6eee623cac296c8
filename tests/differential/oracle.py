"""DuckDB as the oracle: three databases with the same rows in different orders, so that a statement whose answer hangs on the order in which
rows come is told from one that has one right answer."""

import dataclasses
import random

import duckdb

import compare
import data
from tree import DUCK, Column, Select


class Refused(Exception):
    """DuckDB does not take a statement."""


class Undetermined(Exception):
    """A statement has more than one right answer."""


@dataclasses.dataclass
class Answer:
    """Rows; where an order was asked for all of them, uncut, with `hidden` columns of keys at the end."""

    rows: list
    hidden: int
    limit: int
    offset: int
    ordered: bool

    def wrong(self, found):
        """What is wrong with other rows, in a few words, or None."""
        if self.limit is None and not self.offset:
            plain = [row[: len(row) - self.hidden] for row in self.rows]
            problem = compare.difference(plain, found)
            if problem:
                return problem
        if not self.ordered:
            return None
        problem = compare.order_difference(self.rows, self.hidden, found, self.limit, self.offset)
        return f"order: {problem}" if problem else None


class Oracle:
    def __init__(self, tables):
        self.databases = []
        for at in range(3):
            db = duckdb.connect(config={"threads": 1})
            db.execute("SET TimeZone = 'UTC'")
            self.databases.append(db)
        self.load(tables)

    def load(self, tables):
        for at, db in enumerate(self.databases):
            for table in tables:
                data.register(db, table, random.Random(at) if at else None)

    def answer(self, query):
        # Spark does not take an OFFSET or LIMIT apart from the order; neither is drawn without one.
        ordered = bool(query.order)
        positions, hidden = [], []
        names = [item.name for item in query.items]
        for key in query.order:
            if isinstance(key.key, Column) and not key.key.relation and key.key.name in names:
                positions.append(names.index(key.key.name))
            else:
                positions.append(len(names) + len(hidden))
                hidden.append(key.key)
        if hidden and (not isinstance(query, Select) or query.distinct):
            raise Refused("an order by what is not selected")
        text = query.spell(DUCK, hidden, cut=not ordered) if isinstance(query, Select) else query.spell(DUCK, cut=not ordered)
        answers = [self.rows(db, text) for db in self.databases]
        if any(compare.difference(answers[0], other) for other in answers[1:]):
            raise Undetermined()
        rows = answers[0]
        if ordered:
            rows = [row[: len(names)] + tuple(row[at] for at in positions) for row in rows]
        return Answer(rows, len(positions) if ordered else 0, query.limit, query.offset, ordered)

    def rows(self, db, text):
        try:
            return compare.rows_of(db.sql(text).to_arrow_table())
        except (duckdb.Error, RuntimeError, UnicodeDecodeError, OverflowError, ValueError) as error:
            raise Refused(str(error)) from None

    def close(self):
        for db in self.databases:
            db.close()
