"""What a finding looks like."""

import dataclasses
import re

from operators import SPARK, literal
from tree import Column, Literal, Table, walk


@dataclasses.dataclass
class Finding:
    kind: str
    where: str
    problem: str
    query: object
    tables: list
    extra: list
    seed: int
    times: int = 1

    def signature(self):
        """The statement without its names and values: findings alike are one."""
        text = self.query.spell(SPARK)
        text = re.sub(r"\bq\d+\b", "q", text)
        text = re.sub(r"\b[a-z]\w*\.\w+\b", "t", text)
        text = re.sub(r"'[^']*'|\b\d+(\.\d+)?L?\b", "0", text)
        return re.sub(r"\bc\d+\b|\bt \w+\b", "c", text)

    def text(self):
        lines = [f"## {self.kind} on {self.where}: {self.problem}", "", "```sql", self.query.spell(SPARK), "```"]
        used = {node.name.split(".")[-1] for node in walk(self.query) if isinstance(node, Table)}
        for table in self.tables:
            if table.name.split(".")[-1] in used:
                names = ", ".join(f"{name} {kind}" for name, kind in table.columns)
                lines.append(f"{table.name} ({names}), {len(table.rows)} rows, {dataclasses.asdict(table.layout)}:")
                for row in table.rows[:12]:
                    values = ", ".join(literal(frozen(cell), kind, SPARK) if cell is not None else "NULL" for cell, (_, kind) in zip(row, table.columns))
                    lines.append(f"  ({values})")
        for name, rows in self.extra:
            lines.append(f"{name}: {sorted(rows, key=str)[:8] if isinstance(rows, list) else rows}{f' ({len(rows)} rows)' if isinstance(rows, list) else ''}")
        return "\n".join(lines) + f"\n(seed {self.seed})\n"


def frozen(cell):
    return tuple(cell) if isinstance(cell, list) else cell


def skeleton(message):
    """An error without what is particular."""
    text = message.split("¦")[0]
    text = re.sub(r"\bq\d+\b|\bw\d+\b|\bc\d+\b|\bd\d+\.t\d+\b|\bm\d+\.t\d+\b|\b[dm]\d+\b", "_", text)
    text = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "'_'", text)
    text = re.sub(r"\d+", "0", text)
    return text[:140]
