use super::*;
use crate::sql::reads::tables_read;

fn names(sql: &str) -> Vec<String> {
    tables_read(&parse_select(sql, "q.sql").unwrap()).unwrap().into_iter().map(|table| table.to_string()).collect()
}

fn refused(sql: &str) -> Error {
    match parse_select(sql, "q.sql").and_then(|statement| tables_read(&statement)) {
        Ok(_) => panic!("{sql} was taken"),
        Err(error) => {
            assert_eq!(error.code, Code::InvalidSql, "{sql}");
            error
        }
    }
}

#[test]
fn tables_are_found_wherever_they_stand() {
    assert_eq!(names("-- a comment\nSELECT 1 AS x /* another */ ;\n"), Vec::<String>::new());
    assert_eq!(
        names(
            "WITH recent AS (SELECT * FROM stream.streams), r2 AS (SELECT * FROM recent)
             SELECT * FROM Recent r JOIN `Vendor`.Books b ON r.movie_title = b.name
             WHERE EXISTS (SELECT 1 FROM vendor.authors) AND r.x IN (SELECT y FROM a.b UNION SELECT z FROM c.d)
             ORDER BY (SELECT max(e) FROM e.f)"
        ),
        ["a.b", "c.d", "e.f", "stream.streams", "vendor.authors", "vendor.books"]
    );
    assert_eq!(names("DESCRIBE vendor.books"), ["vendor.books"]);
    assert_eq!(names("DESCRIBE TABLE vendor.books"), ["vendor.books"]);
    assert_eq!(names("EXPLAIN SELECT * FROM vendor.books"), ["vendor.books"]);
    assert_eq!(names("SELECT * FROM range(10)"), Vec::<String>::new());
}

#[test]
fn what_is_no_table_is_refused() {
    for sql in [
        "SELECT * FROM movies",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM `/etc/passwd`",
        "SELECT * FROM parquet.`/data/x.parquet`",
        "SELECT * FROM a.b.c",
        "DESCRIBE movies",
        "SELECT * FROM (SELECT * FROM movies) x",
    ] {
        let error = refused(sql);
        assert!(error.message.contains("is not a table"), "{sql}: {}", error.message);
        assert!(error.hint.contains("schema.table"));
    }
    assert!(refused("SELECT *\nFROM movies").message.starts_with("q.sql:2:6: `movies`"));
}

#[test]
fn only_a_select_is_taken() {
    for (sql, expected) in [
        ("INSERT INTO a.b SELECT 1", "found INSERT INTO"),
        ("CREATE TABLE a.b (x INT)", "found CREATE TABLE"),
        ("CREATE TABLE a.b AS SELECT 1", "found CREATE TABLE"),
        ("DROP TABLE a.b", "found DROP TABLE"),
        ("DELETE FROM a.b", "found DELETE"),
        ("UPDATE a.b SET x = 1", "found UPDATE"),
        ("SET x = 1", "found SET"),
        ("COPY a.b TO '/tmp/x'", "found COPY"),
        ("EXPLAIN DELETE FROM a.b", "found DELETE"),
        ("WITH x AS (SELECT 1) INSERT INTO a.b SELECT * FROM x", "expected a SELECT"),
        ("SELECT 1; SELECT 2", "a second statement begins with SELECT"),
        ("SELECT 1; DROP TABLE a.b", "a second statement begins with DROP"),
        ("", "there is no statement"),
        ("-- nothing", "there is no statement"),
        ("SELECT x INTO a.b FROM c.d", "SELECT INTO"),
        ("SELECT * FROM read_csv('/etc/passwd')", "table function `read_csv`"),
        ("SELECT * FROM a.b TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
        ("WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 2 FROM r) SELECT * FROM r", "RECURSIVE"),
        ("SELECT 1 FROM a.b FOR UPDATE", "not supported"),
    ] {
        let error = refused(sql);
        assert!(error.message.contains(expected), "{sql}: {}", error.message);
    }
}

#[test]
fn syntax_errors_have_a_place() {
    assert_eq!(refused("SELECT *\nFROM a.b\nWHERE AND").message.split(": ").next(), Some("q.sql:3:7"));
    assert_eq!(refused("SELECT 'x").message.split(": ").next(), Some("q.sql:1:8"));
    assert!(refused("SELECT (1").message.contains("q.sql:1:"));
    assert!(refused("SELECT 1 2").message.contains("should end before `2`"));
    let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
    assert!(refused(&deep).message.contains("nests deeper"));
}

#[test]
fn columns_are_named_as_written() {
    let statement = parse_select("SELECT createdAt, t.Name, avg(x), x AS `My X`, *, s[0].Title FROM a.b", "").unwrap();
    let Kind::Select(select) = statement.kind else { panic!() };
    let named = |name: &str| OutputName::Named(name.into());
    assert_eq!(
        select.names,
        [named("createdAt"), named("Name"), named("avg(x)"), named("My X"), OutputName::All, named("Title")]
    );
}
