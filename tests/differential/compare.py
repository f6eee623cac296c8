"""Answers of two engines, made alike and compared: as sets of rows, and in the order that was asked for."""

import collections
import datetime
import decimal
import math

EPOCH = datetime.datetime(1970, 1, 1)


def rows_of(table):
    """An Arrow table's rows as plain values that can be hashed."""
    columns = [[plain(value) for value in column.to_pylist()] for column in table.columns]
    return list(zip(*columns)) if columns else []


def plain(value):
    """Numbers are one kind, whatever their type; times are microseconds."""
    if value is None or isinstance(value, (str, bytes)):
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, (int, float)):
        if isinstance(value, float):
            if math.isnan(value):
                return "NaN!"
            if math.isinf(value):
                return "Infinity!" if value > 0 else "-Infinity!"
        if value == 0:
            return 0
        return rounded(value)
    if isinstance(value, datetime.datetime):
        return ("time", int((value.replace(tzinfo=None) - EPOCH) / datetime.timedelta(microseconds=1)))
    if isinstance(value, datetime.date):
        return ("date", value.toordinal())
    if isinstance(value, dict):
        return ("struct", tuple(plain(inner) for inner in value.values()))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(plain(inner) for inner in value))
    return str(value)


def rounded(value):
    """Nine digits, by which sums in another order do not differ."""
    if isinstance(value, int) and abs(value) < 10**9:
        return value
    rounded = float(f"{float(value):.9g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def difference(expected, found):
    """What two lists of rows differ in as multisets, in a few words; None: nothing."""
    left, right = collections.Counter(map(key, expected)), collections.Counter(map(key, found))
    if left == right:
        return None
    missing, extra = list((left - right).elements()), list((right - left).elements())
    if len(expected) != len(found):
        return f"{len(found)} rows for {len(expected)}"
    return f"{len(missing)} rows differ: {shown(extra[:2])} for {shown(missing[:2])}"


def shown(rows):
    return ", ".join(map(str, rows))


def key(row):
    return tuple(soft(value) for value in row)


def soft(value):
    """Floats to eight digits: what nine digits cut apart at a border is the same to eight nearly always."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, tuple):
        return tuple(soft(inner) for inner in value)
    return value


def order_difference(whole, hidden, found, limit, offset):
    """Whether `found` is in order. `whole` are an oracle's rows, uncut and in order, the last `hidden` columns of each being the keys of the
    order; rows with the same keys may come in any order among themselves."""
    start = min(offset or 0, len(whole))
    end = len(whole) if limit is None else min(len(whole), start + limit)
    if len(found) != end - start:
        return f"{len(found)} rows for {end - start}"
    groups, at = [], 0
    for place, row in enumerate(whole):
        keys = key(row[len(row) - hidden :])
        if groups and groups[-1][0] == keys:
            groups[-1][2].append(row[: len(row) - hidden])
        else:
            groups.append((keys, place, [row[: len(row) - hidden]]))
    for keys, first, rows in groups:
        low, high = max(first, start), min(first + len(rows), end)
        if low >= high:
            continue
        here, all_of_group = found[low - start : high - start], collections.Counter(map(key, rows))
        wrong = collections.Counter(map(key, here)) - all_of_group
        if wrong:
            return f"row {low - start + 1} on are {shown(here[:2])} where {shown(rows[:2])} belong"
    return None
