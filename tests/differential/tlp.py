"""Ternary logic partitioning: the rows of a SELECT are those for which a condition is true, false or unknown, together."""

import dataclasses

import compare
from cluster import Failure
from queries import is_aggregate, is_unnest
from tree import Call, Select, Window, walk


def parts(query, generator):
    """A statement without its WHERE, and the three with; None where that means nothing."""
    if not isinstance(query, Select) or query.where is None or query.group or query.grouping != "plain" or query.distinct or query.limit is not None:
        return None
    if any(is_aggregate(item.value) or any(isinstance(node, Window) for node in walk(item.value)) for item in query.items):
        return None
    whole = dataclasses.replace(query, where=None, order=())
    condition = query.where
    tests = (condition, Call("not", (condition,), "boolean"), Call("is null", (condition,), "boolean"))
    return [whole] + [dataclasses.replace(whole, where=test) for test in tests]


def problem(queries, ask):
    """What the parts have other than the whole."""
    whole, *rest = [ask(query) for query in queries]
    if any(isinstance(rows, Failure) for rows in (whole, *rest)):
        return None
    return compare.difference(whole, [row for rows in rest for row in rows])
