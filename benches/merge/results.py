"""What was measured, and which targets that reaches."""

import re
from collections import namedtuple

import common
from rows import LAYOUTS, PEERS, TRIREME, WITH_VECTORS, WITHOUT_VECTORS, ours

# Seconds, seconds and bytes.
Cost = namedtuple("Cost", "wall cpu peak")
STEPS = ["load-streams", "load-reviews", "merge-streams", "merge-reviews"]
MERGES = STEPS[2:]
CASES = {"near": "its own key range, updates to the day before", "far": "updates spread over all ten days"}


class Results:
    """Costs by part, row and step, of each run."""

    def __init__(self):
        self.costs = {}

    def add(self, part, row, step, cost):
        self.costs.setdefault((part, row), {}).setdefault(step, []).append(cost)

    def forget(self, part, row):
        self.costs.pop((part, row), None)

    def rows(self, part):
        return [row for measured, row in self.costs if measured == part]

    def runs(self, part, row, step):
        return self.costs.get((part, row), {}).get(step, [])

    def cost(self, part, row, *steps):
        """The median of the sum of some steps, peaks being the largest; None if one was not measured."""
        runs = [self.runs(part, row, step) for step in steps]
        if not all(runs):
            return None
        sums = [Cost(sum(c.wall for c in run), sum(c.cpu for c in run), max(c.peak for c in run)) for run in zip(*runs)]
        return Cost(*common.medians(sums))

    def best(self, part, steps, layout=None, peer=None):
        """The least wall and CPU seconds of peers, and whose they are."""
        costs = [(self.cost(part, row, *steps), row.title) for row in self.rows(part)
                 if row.peer and layout in (None, row.layout) and peer in (None, row.peer)]
        costs = [(cost, title) for cost, title in costs if cost]
        if not costs:
            return None, None
        wall, cpu = min(costs, key=lambda c: c[0].wall), min(costs, key=lambda c: c[0].cpu)
        return Cost(wall[0].wall, cpu[0].cpu, 0), wall[1] if wall[1] == cpu[1] else f"{wall[1]}; CPU: {cpu[1]}"


def shown(cost):
    if not cost:
        return "–"
    digits = 1 if cost.wall >= 10 else 2
    return f"{cost.wall:.{digits}f} / {cost.cpu:.{digits}f}"


def gigabytes(cost):
    return f"{cost.peak / 1e9:.2f}" if cost else "–"


def bytes_of(size):
    """Of a size such as 20MB or 1GiB."""
    number, unit, binary = re.fullmatch(r"([\d.]+)\s*([KMGT]?)(i?)B", size, re.IGNORECASE).groups()
    return float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " ")


def targets(results, options):
    """The lines of the last table; what was not measured has none."""
    lines = []

    def ratio(work, most, cost, other, whose):
        """Wall and CPU seconds as multiples of others'."""
        if cost and other:
            wall, cpu = cost.wall / other.wall, cost.cpu / other.cpu
            met = {(True, True): "yes", (True, False): "by wall only", (False, True): "by CPU only", (False, False): "no"}[wall <= most, cpu <= most]
            lines.append([work, f"at most {most:g} × {whose}", f"{wall:.2f} wall, {cpu:.2f} CPU", met])

    def limit(work, most, unit, value, digits=2):
        lines.append([work, f"at most {most:g} {unit}", f"{value:.{digits}f} {unit}", "yes" if value <= most else "no"])

    def against_best(work, most, part, row, steps, **which):
        best, whose = results.best(part, steps, **which)
        ratio(work, most, results.cost(part, row, *steps), best, f"the best peer ({whose})")

    def against(work, most, part, row, steps, peer, **which):
        ratio(work, most, results.cost(part, row, *steps), results.best(part, steps, peer=peer, **which)[0], PEERS[peer].title)

    mine = ours(options)
    last = mine[-1] if mine else None
    against_best("first load, streams", 1.0, "day", last, STEPS[:1])
    for row in mine:
        against_best(f"first load, reviews, {LAYOUTS[row.layout]}", 1.0, "day", row, STEPS[1:2], layout=row.layout)
    for row in mine:
        work = f"merge of a day into a 1-day table, {LAYOUTS[row.layout]}"
        against_best(work, 0.6, "day", row, MERGES, layout=row.layout)
        against(work, 0.25, "day", row, MERGES, "sail", layout=row.layout)
        against(work, 0.1, "day", row, MERGES, "spark", layout=row.layout)
    one_day = results.cost("day", last, "merge-streams")
    for case, title in CASES.items():
        work = f"the day into a 10-day table, {title}"
        against_best(work, 0.4, "tendays", TRIREME, [case])
        default = next((row for row in results.rows("tendays") if row.peer == "deltalake" and not row.settings), None)
        ratio(work, 0.4, results.cost("tendays", TRIREME, case), results.cost("tendays", default, case), "delta-rs alone, by its defaults")
        if case == "near":
            ratio(work, 1.2, results.cost("tendays", TRIREME, case), one_day, "our own merge into a 1-day table")
    for row in mine:
        day, questions = results.cost("day", row, *STEPS), results.cost("day", row, "questions")
        if day and questions:
            limit(f"peak memory, a day of {options.size}, {LAYOUTS[row.layout]}", 1.4, "GB", max(day.peak, questions.peak) / 1e9)
    ten_days = results.cost("tendays", TRIREME, *CASES)
    if ten_days and one_day:
        limit("peak memory of a merge into 10 days (flat)", 1.1, "× of that into 1 day", ten_days.peak / one_day.peak)
    large, day = results.cost("large", last, *STEPS), results.cost("day", last, *STEPS)
    if large:
        limit(f"peak memory, a day of {options.large}", 2.5, "GB", large.peak / 1e9)
        # 8.5 × for 8 times the bytes.
        most = round(8.5 / 8 * bytes_of(options.large) / bytes_of(options.size), 2)
        ratio(f"a day of {options.large} loaded, the next merged", most, large, day, f"the day of {options.size}")
    for row in (WITH_VECTORS, WITHOUT_VECTORS):
        against_best(f"six questions on the 10-day table, {row.title.split(', ')[1]}", 1.0, "questions", row, ["questions"])
    vectors, without = (results.cost("questions", row, "questions") for row in (WITH_VECTORS, WITHOUT_VECTORS))
    ratio("six questions on the 10-day table, with deletion vectors", 1.3, vectors, without, "without")
    job = results.cost("smallest", TRIREME, "job")
    if job:
        limit("fixed cost of the smallest job", 300, "ms", job.wall * 1000, digits=0)
    return lines
