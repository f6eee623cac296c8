"""Makes a failing statement and its tables smaller while they still fail."""

import dataclasses
import time

from tree import (
    Call, Case, Column, Derived, Exploded, Item, Join, Lambda, Literal, Select, SetOperation, Subquery, Table, Values, Window, size, walk,
)

SIMPLE = {"int": 1, "bigint": 1, "double": 1.0, "string": "a", "boolean": True}


def minimise(query, tables, fails, seconds):
    """`fails(query, tables)` says whether it still does. Returns the smallest found; tables may then have fewer rows and columns."""
    end = time.time() + seconds
    query = minimise_query(query, lambda candidate: fails(candidate, tables), end)
    used = {node.name for node in walk(query) if isinstance(node, Table)}
    kept = [table for table in tables if table.name in used]
    kept = minimise_rows(query, kept, fails, end)
    return minimise_query(query, lambda candidate: fails(candidate, kept), end), kept


def minimise_query(query, fails, end):
    smaller = True
    while smaller and time.time() < end:
        smaller = False
        tried, weight = set(), size(query)
        for candidate in sorted(unique(variants(query)), key=size):
            if time.time() > end:
                break
            if candidate in tried or size(candidate) > weight or candidate == query:
                continue
            tried.add(candidate)
            if fails(candidate):
                query, smaller = candidate, True
                break
    return query


def unique(candidates):
    seen = set()
    for candidate in candidates:
        if candidate not in seen:
            seen.add(candidate)
            yield candidate


def minimise_rows(query, tables, fails, end):
    """Takes rows away by halves, quarters, …, one by one; then plainer files."""
    tables = list(tables)
    for at, table in enumerate(tables):
        step = max(1, len(table.rows) // 2)
        while step and time.time() < end:
            start, removed = 0, False
            while start < len(tables[at].rows) and time.time() < end:
                rows = tables[at].rows[:start] + tables[at].rows[start + step :]
                candidate = tables[:at] + [dataclasses.replace(tables[at], rows=rows)] + tables[at + 1 :]
                if fails(query, candidate):
                    tables, removed = candidate, True
                else:
                    start += step
            if not removed or step > 1:
                step //= 2
        for change in ({"hidden": 0}, {"partition": ""}, {"group_rows": 1000}, {"statistics": True}, {"files": 1}, {"files": 2}):
            layout = dataclasses.replace(tables[at].layout, **change)
            candidate = tables[:at] + [dataclasses.replace(tables[at], layout=layout)] + tables[at + 1 :]
            if layout != tables[at].layout and time.time() < end and not (change.get("files") == 2 and tables[at].layout.files <= 2):
                if fails(query, candidate):
                    tables = candidate
    # Columns that are not named.
    for at, table in enumerate(tables):
        for name, _ in table.columns[1:]:
            columns = tables[at].columns
            place = [column for column, _ in columns].index(name)
            without = [column for column in columns if column[0] != name]
            rows = [row[:place] + row[place + 1 :] for row in tables[at].rows]
            layout = dataclasses.replace(tables[at].layout, sorted_by=0)
            candidate = tables[:at] + [dataclasses.replace(tables[at], columns=without, rows=rows, layout=layout)] + tables[at + 1 :]
            if tables[at].layout.partition != name and time.time() < end and fails(query, candidate):
                tables = candidate
    return tables


def variants(node):
    """Simpler forms of a node: first of itself, then of what is in it."""
    yield from local(node)
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        for simpler in variants_of_value(value):
            yield dataclasses.replace(node, **{field.name: simpler})


def variants_of_value(value):
    if dataclasses.is_dataclass(value):
        yield from variants(value)
    elif isinstance(value, tuple):
        for at, item in enumerate(value):
            for simpler in variants_of_value(item):
                yield value[:at] + (simpler,) + value[at + 1 :]


def without_one(items):
    for at in range(len(items)):
        yield items[:at] + items[at + 1 :]


def local(node):
    replace = lambda **changes: dataclasses.replace(node, **changes)
    if isinstance(node, Select):
        yield from select(node, replace)
    elif isinstance(node, SetOperation):
        yield dataclasses.replace(node.left, ctes=node.ctes)
        yield dataclasses.replace(node.right, ctes=node.ctes)
        yield from end_of(node, replace)
        for at in range(len(node.items)) if len(node.items) > 1 else ():
            left, right = without_item(node.left, at), without_item(node.right, at)
            if left and right:
                yield replace(left=left, right=right)
    elif isinstance(node, Join):
        yield node.left
        yield node.right
        if node.kind not in ("inner", "cross"):
            yield replace(kind="inner")
        if node.on is not None and not (isinstance(node.on, Literal) and node.on.value is True):
            yield replace(on=Literal(True, "boolean"))
        if node.kind == "cross":
            yield Join("inner", node.left, node.right, Literal(True, "boolean"))
    elif isinstance(node, Exploded):
        yield node.source
        if node.outer:
            yield replace(outer=False)
    elif isinstance(node, Derived):
        inner = node.query
        if isinstance(inner, Select) and inner.source is not None and isinstance(inner.source, (Table, Derived)):
            yield dataclasses.replace(inner.source, alias=node.alias)
    elif isinstance(node, Values):
        for rows in without_one(node.rows) if len(node.rows) > 1 else ():
            yield replace(rows=rows)
    elif isinstance(node, Window):
        yield node.function
        for partition in without_one(node.partition):
            yield replace(partition=partition)
        for order in without_one(node.order):
            yield replace(order=order)
        if node.frame:
            yield replace(frame="")
        if node.ignore_nulls:
            yield replace(ignore_nulls=False)
    elif isinstance(node, Subquery):
        if len(node.left) > 1:
            for at in range(len(node.left)):
                query = without_item(node.query, at)
                if query:
                    yield replace(left=node.left[:at] + node.left[at + 1 :], query=query)
        yield from constants(node.type)
        if node.kind.startswith("not"):
            yield replace(kind=node.kind[4:])
        if node.left:
            yield replace(kind="not exists" if node.kind == "not in" else "exists", left=())
    elif isinstance(node, Case):
        for branches in without_one(node.branches) if len(node.branches) > 1 else ():
            yield replace(branches=branches)
        for condition, value in node.branches:
            yield value
            if node.type == "boolean":
                yield condition
        if node.otherwise is not None:
            yield node.otherwise
            yield replace(otherwise=None)
        yield from constants(node.type)
    elif isinstance(node, (Call, Lambda)) or type(node).__name__ == "InList":
        inside = node.args if isinstance(node, Call) else (node.array,) if isinstance(node, Lambda) else (node.value,)
        for arg in inside:
            if getattr(arg, "type", None) == node.type:
                yield arg
        if type(node).__name__ == "InList" and len(node.literals) > 1:
            for literals in without_one(node.literals):
                yield replace(literals=literals)
        yield from constants(node.type)
    elif isinstance(node, Column) and node.type in SIMPLE:
        pass


def select(node, replace):
    if node.ctes:
        for at, (name, query) in enumerate(node.ctes):
            yield query if not at else dataclasses.replace(query, ctes=node.ctes[:at])
        for ctes in without_one(node.ctes):
            yield replace(ctes=ctes)
    if isinstance(node.source, Derived) and not node.ctes:
        yield node.source.query
    if node.where is not None:
        yield replace(where=None)
    if node.having is not None:
        yield replace(having=None)
    if node.distinct:
        yield replace(distinct=False)
    yield from end_of(node, replace)
    if node.grouping != "plain":
        yield replace(grouping="plain", sets=())
        if node.grouping != "rollup":
            yield replace(grouping="rollup", sets=())
        for sets in without_one(node.sets) if len(node.sets) > 1 else ():
            yield replace(sets=sets)
    for group in without_one(node.group):
        yield replace(group=group, grouping=node.grouping if group else "plain", sets=tuple(s for s in node.sets if all(at < len(group) for at in s)) or ((),))
    if len(node.items) > 1:
        for items in without_one(node.items):
            yield replace(items=items)
    for at, item in enumerate(node.items):
        if not isinstance(item.value, (Literal, Column)):
            for simple in constants(item.value.type):
                yield replace(items=node.items[:at] + (Item(simple, item.name),) + node.items[at + 1 :])


def end_of(node, replace):
    if node.limit is not None:
        yield replace(limit=None, offset=None)
    if node.offset is not None:
        yield replace(offset=None)
    if node.order:
        yield replace(order=())
        for order in without_one(node.order):
            yield replace(order=order)
        for at, key in enumerate(node.order):
            if key.descending or key.nulls:
                yield replace(order=node.order[:at] + (dataclasses.replace(key, descending=False, nulls=None),) + node.order[at + 1 :])


def without_item(query, at):
    if isinstance(query, SetOperation):
        left, right = without_item(query.left, at), without_item(query.right, at)
        return dataclasses.replace(query, left=left, right=right) if left and right else None
    if at >= len(query.items) or len(query.items) < 2:
        return None
    return dataclasses.replace(query, items=query.items[:at] + query.items[at + 1 :])


def constants(kind):
    if kind == "boolean":
        yield Literal(True, kind)
        yield Literal(False, kind)
    elif kind in SIMPLE:
        yield Literal(SIMPLE[kind], kind)
