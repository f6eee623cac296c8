//! The functions of SQL, as data: what `trireme sql --functions` and docs/functions.md show. A test of the engine checks that every function
//! that a session knows is here, and runs every example.

/// A function of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlFunction {
    /// What it is about: `texts`, `arrays`, …
    pub area: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it takes; `[…]` may be left out.
    pub arguments: &'static str,
    /// A call; of aggregates and windows, `c` is a column.
    pub example: &'static str,
    /// What differs from Spark; often nothing.
    pub difference: &'static str,
}

const LIST: &str = include_str!("functions.tsv");

/// All functions, by area.
pub fn sql_functions() -> impl Iterator<Item = SqlFunction> {
    LIST.lines().filter_map(|line| {
        let mut parts = line.split('\t');
        let mut part = || parts.next();
        Some(SqlFunction {
            area: part()?,
            name: part()?,
            arguments: part()?,
            example: part()?,
            difference: part().unwrap_or_default(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        let mut page = "# Functions of SQL\n\nAs `trireme sql --functions` lists them. They mean what they mean in Spark 3.5 (ANSI off) but for what stands under *difference*.\n".to_string();
        let mut area = "";
        for function in sql_functions() {
            if function.area != area {
                area = function.area;
                page += &format!("\n## {area}\n\n| function | example | difference |\n|---|---|---|\n");
            }
            let cell = |text: &str| text.replace('|', "\\|");
            page += &format!(
                "| {}({}) | `{}` | {} |\n",
                function.name,
                cell(function.arguments),
                cell(function.example),
                cell(function.difference)
            );
        }
        page
    }

    #[test]
    fn the_manual_has_the_list() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/functions.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
            std::fs::write(path, page()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap();
        assert!(found == page(), "run `UPDATE=1 cargo nextest run -p trireme-proto` and commit docs/functions.md");
    }

    #[test]
    fn each_function_is_there_once() {
        let mut names: Vec<_> = sql_functions().map(|function| function.name).collect();
        assert_eq!(LIST.lines().count(), names.len(), "a line has too few parts");
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(count, names.len());
    }
}
