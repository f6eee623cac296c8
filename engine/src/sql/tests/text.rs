use crate::sql::testing::{check, failure, plain};

#[tokio::test]
async fn text_functions_are_sparks() {
    check(
        "UTC",
        &[
            ("lower(«'SparkSql'»)", "sparksql string"),
            ("upper(«'SparkSql'»)", "SPARKSQL string"),
            ("ucase(«'ä'»)", "Ä string"),
            ("initcap(«'sPark o-neil sql'»)", "Spark O-neil Sql string"),
            ("initcap(«'o\\'neil'»)", "O'neil string"),
            ("trim(«'  x  '»)", "x string"),
            ("ltrim(«'  x'»)", "x string"),
            ("trim(LEADING 'S' FROM «'SSparkSQLS'»)", "parkSQLS string"),
            ("trim(BOTH 'SL' FROM «'SSparkSQLS'»)", "parkSQ string"),
            ("substring(«'Spark SQL'», 5)", "k SQL string"),
            ("substring(«'Spark SQL'», -3)", "SQL string"),
            ("substring(«'Spark SQL'», 5, 1)", "k string"),
            ("substr(«'Spark SQL'» FROM 5 FOR 1)", "k string"),
            ("substr(«'Spark SQL'», 0, 2)", "Sp string"),
            ("left(«'Spark SQL'», 3)", "Spa string"),
            ("left(«'Spark SQL'», -3)", " string"),
            ("right(«'Spark SQL'», 3)", "SQL string"),
            ("length(«'Spark SQL '»)", "10 int"),
            ("char_length(«'ä'»)", "1 int"),
            ("replace(«'ABCabc'», 'abc', 'DEF')", "ABCDEF string"),
            ("replace(«'ABCabc'», 'abc')", "ABC string"),
            ("lpad(«'hi'», 5, '??')", "???hi string"),
            ("lpad(«'hi'», 1, '??')", "h string"),
            ("rpad(«'hi'», 5)", "hi    string"),
            ("instr(«'SparkSQL'», 'SQL')", "6 int"),
            ("locate('bar', «'foobarbar'»)", "4 int"),
            ("position('bar' IN «'foobarbar'»)", "4 int"),
            ("concat(«'Spark'», «'SQL'»)", "SparkSQL string"),
            ("concat(«'Spark'», NULL)", "null string"),
            ("concat(«'a'», «1», «1.5e0»)", "a11.5 string"),
            ("concat(array(«1», 2), array(3))", "[1, 2, 3] array<int>"),
            ("concat(array(«1»), CAST(NULL AS array<int>))", "null array<int>"),
            ("«'a'» || «'b'»", "ab string"),
            ("«'a'» || NULL", "null string"),
            ("concat_ws(' ', «'Spark'», 'SQL')", "Spark SQL string"),
            ("concat_ws('/', «'foo'», NULL, 'bar')", "foo/bar string"),
            ("concat_ws(',', array(«'a'», NULL, 'b'))", "a,b string"),
            ("split(«'oneAtwoBthreeC'», '[ABC]')", "[one, two, three, ] array<string>"),
            ("split(«'oneAtwoBthreeC'», '[ABC]', -1)", "[one, two, three, ] array<string>"),
            ("split(«'oneAtwoBthreeC'», '[ABC]', 2)", "[one, twoBthreeC] array<string>"),
            ("split(«'a.b'», '\\\\.')[1]", "b string"),
            ("split(«'abc'», '')", "[a, b, c] array<string>"),
            ("split(«''», ',')", "[] array<string>"),
            ("split(«CAST(NULL AS string)», ',')", "null array<string>"),
            ("regexp_replace(«'100-200'», '(\\\\d+)', 'num')", "num-num string"),
            ("regexp_replace(«'ab'», '(a)(b)', '$2$1x')", "bax string"),
            ("regexp_extract(«'100-200'», '(\\\\d+)-(\\\\d+)', 1)", "100 string"),
            ("regexp_extract(«'100-200'», '(\\\\d+)-(\\\\d+)')", "100 string"),
            ("regexp_extract(«'100-200'», '(\\\\d+)-(\\\\d+)', 2)", "200 string"),
            ("regexp_extract(«'foo'», '(\\\\d+)', 1)", " string"),
            ("regexp_extract_all(«'100-200, 300-400'», '(\\\\d+)-(\\\\d+)', 1)", "[100, 300] array<string>"),
            ("regexp_like(«'abc'», 'b')", "true boolean"),
            ("regexp(«'abc'», 'x')", "false boolean"),
            ("startswith(«'Spark SQL'», 'Spark')", "true boolean"),
            ("endswith(«'Spark SQL'», 'Spark')", "false boolean"),
            ("contains(«'Spark SQL'», 'Spark')", "true boolean"),
            ("repeat(«'123'», 2)", "123123 string"),
            ("reverse(«'Spark SQL'»)", "LQS krapS string"),
            ("translate(«'AaBbCc'», 'abc', '123')", "A1B2C3 string"),
            ("ascii(«'222'»)", "50 int"),
            ("chr(«65»)", "A string"),
            ("substring_index(«'www.apache.org'», '.', 2)", "www.apache string"),
            ("levenshtein(«'kitten'», 'sitting')", "3 int"),
            ("format_string('Hello World %d %s', «100», 'days')", "Hello World 100 days string"),
            ("md5(«'Spark'»)", "8cde774d6f7333752ed72cacddb05126 string"),
            ("sha1(«'Spark'»)", "85f5955f4b27a9a4c2aab6ffe5d7189fc298b92c string"),
            ("sha2(«'Spark'», 256)", "529bc3b07127ecb7e53a4dcf1991d9152c24537d919178022b2c42657f79a26b string"),
            ("crc32(«'Spark'»)", "1557323817 bigint"),
            ("xxhash64(«'Spark'», array(123), 2)", "5602566077635097486 bigint"),
            ("base64(«'Spark SQL'»)", "U3BhcmsgU1FM string"),
            ("CAST(unbase64(«'U3BhcmsgU1FM'») AS string)", "Spark SQL string"),
            ("hex(«17»)", "11 string"),
            ("split_part(«'11.12.13'», '.', 3)", "13 string"),
        ],
    )
    .await;
}

#[tokio::test]
async fn wrong_patterns_are_explained() {
    let state = plain("UTC");
    for (sql, expected) in [
        ("SELECT regexp_replace('x', '(', '') AS x", "regular expression `(`: unclosed group"),
        ("SELECT regexp_extract('x', 'a', 1) AS x", "there is no group 1"),
        ("SELECT regexp_extract('x', '(?=a)', 0) AS x", "look-around"),
        ("SELECT split('x') AS x", "split takes"),
    ] {
        let error = failure(&state, sql).await;
        assert!(error.message.contains(expected), "{sql}: {error}");
    }
}
