use crate::sql::testing::check;

#[tokio::test]
async fn texts_are_cast_as_in_spark() {
    check(
        "UTC",
        &[
            ("CAST(«'12'» AS int)", "12 int"),
            ("CAST(«' 12 '» AS bigint)", "12 bigint"),
            ("CAST(«'x'» AS int)", "null int"),
            ("CAST(«'1.9'» AS int)", "1 int"),
            ("CAST(«'-1.9'» AS bigint)", "-1 bigint"),
            ("CAST(«'2147483648'» AS int)", "null int"),
            ("CAST(«'300'» AS tinyint)", "null tinyint"),
            ("CAST(«'1e3'» AS int)", "null int"),
            ("CAST(«'1e3'» AS double)", "1000.0 double"),
            ("CAST(«' 1.5f '» AS double)", "1.5 double"),
            ("CAST(«'abc'» AS double)", "null double"),
            ("CAST(«''» AS double)", "null double"),
            ("CAST(«'1.255'» AS decimal(10,2))", "1.26 decimal(10,2)"),
            ("CAST(«'1.5e1'» AS decimal(10,2))", "15.00 decimal(10,2)"),
            ("CAST(«'123456789012'» AS decimal(10,2))", "null decimal(10,2)"),
            ("CAST(«'yes'» AS boolean)", "true boolean"),
            ("CAST(«'F'» AS boolean)", "false boolean"),
            ("CAST(«'maybe'» AS boolean)", "null boolean"),
            ("CAST(«'2021-12-25T07:00:00.000+0100'» AS timestamp)", "2021-12-25T06:00:00Z timestamp"),
            ("CAST(«'2021-12-25 07:00'» AS timestamp)", "2021-12-25T07:00:00Z timestamp"),
            ("CAST(«'soon'» AS timestamp)", "null timestamp"),
            ("CAST(«'2021-12-25T23:00:00Z'» AS date)", "2021-12-25 date"),
            ("CAST(«'2021-02-30'» AS date)", "null date"),
            ("CAST(«'x'» AS string)", "x string"),
            ("CAST(array(«'1'», «'x'») AS array<int>)", "[1, null] array<int>"),
            ("«'7'»::int", "7 int"),
            ("int(«'7'»)", "7 int"),
            ("double(«'7'»)", "7.0 double"),
            ("TRY_CAST(«'12.5'» AS bigint)", "null bigint"),
            ("TRY_CAST(«' 12 '» AS int)", "12 int"),
            ("TRY_CAST(«300» AS tinyint)", "null tinyint"),
            ("TRY_CAST(«3.99» AS int)", "3 int"),
            ("TRY_CAST(«1e30» AS bigint)", "null bigint"),
            ("TRY_CAST(«12345678901.5» AS int)", "null int"),
            ("TRY_CAST(«-2147483648.5D» AS int)", "-2147483648 int"),
            ("TRY_CAST(«-129.0D» AS tinyint)", "null tinyint"),
            ("TRY_CAST(«-9223372036854775808.0D» AS bigint)", "-9223372036854775808 bigint"),
            ("-(«-128Y»)", "-128 tinyint"),
            ("CAST(map('a', 1, 'b', NULL) AS string)", "{a -> 1, b -> null} string"),
            ("TRY_CAST(«'x'» AS int)", "null int"),
            ("TIMESTAMP '2021-12-25 07:00:00'", "2021-12-25T07:00:00Z timestamp"),
            ("TIMESTAMP '2021-12-25T07:00:00+01:00'", "2021-12-25T06:00:00Z timestamp"),
            ("DATE '2021-12-25'", "2021-12-25 date"),
            ("CAST('1' AS LONG)", "1 bigint"),
            ("CAST(named_struct('a', «'1'») AS struct<b: int>)", "{b: 1} struct<b:int>"),
        ],
    )
    .await;
}

#[tokio::test]
async fn numbers_are_cast_as_in_java() {
    check(
        "UTC",
        &[
            ("CAST(«1.9D» AS int)", "1 int"),
            ("CAST(«2.9e0» AS int)", "2 int"),
            ("CAST(«-2.9e0» AS int)", "-2 int"),
            ("CAST(«1e20» AS int)", "2147483647 int"),
            ("CAST(«1e20» AS bigint)", "9223372036854775807 bigint"),
            ("CAST(«CAST('NaN' AS double)» AS int)", "0 int"),
            ("CAST(«300» AS tinyint)", "44 tinyint"),
            ("CAST(«2147483648» AS int)", "-2147483648 int"),
            ("CAST(«CAST('2.9' AS decimal(5,2))» AS int)", "2 int"),
            ("CAST(«12345.678e0» AS decimal(6,2))", "null decimal(6,2)"),
            ("CAST(«1.005e0» AS decimal(10,1))", "1.0 decimal(10,1)"),
            ("CAST(«1.25e0» AS string)", "1.25 string"),
            ("CAST(«1e7» AS string)", "1.0E7 string"),
            ("CAST(«100» AS string)", "100 string"),
            ("CAST(«true» AS int)", "1 int"),
            ("CAST(«0» AS boolean)", "false boolean"),
            ("CAST(«1640415600» AS timestamp)", "2021-12-25T07:00:00Z timestamp"),
            ("CAST(«0.5e0» AS timestamp)", "1970-01-01T00:00:00.500Z timestamp"),
            ("CAST(array(«1», 2) AS string)", "[1, 2] string"),
            ("CAST(named_struct('a', «1», 'b', 'x') AS string)", "{1, x} string"),
        ][1..],
    )
    .await;
}

#[tokio::test]
async fn times_are_cast_to_seconds() {
    let ts = |text: &str| format!("«TIMESTAMP '{text}'»");
    let (a, b) = (ts("2021-12-25 07:00:10.5"), ts("2021-12-25 06:00:00"));
    let examples: Vec<(String, &str)> = vec![
        (format!("CAST({a} - {b} AS int)"), "3610 int"),
        (format!("CAST({b} - {a} AS int)"), "-3610 int"),
        (format!("CAST({a} - {b} AS bigint)"), "3610 bigint"),
        (format!("CAST({a} - {b} AS double)"), "3610.5 double"),
        (format!("CAST({a} - {b} AS decimal(10,1))"), "3610.5 decimal(10,1)"),
        (format!("CAST({a} - {b} AS string)"), "INTERVAL '0 01:00:10.5' DAY TO SECOND string"),
        (format!("CAST({a} AS bigint)"), "1640415610 bigint"),
        (format!("CAST({a} AS double)"), "1640415610.5 double"),
        (format!("CAST({a} AS string)"), "2021-12-25 07:00:10.5 string"),
        (format!("CAST({b} AS string)"), "2021-12-25 06:00:00 string"),
        (format!("CAST({a} AS date)"), "2021-12-25 date"),
        ("CAST(«DATE '2021-12-25'» AS timestamp)".into(), "2021-12-25T00:00:00Z timestamp"),
        ("CAST(«DATE '2021-12-25'» AS string)".into(), "2021-12-25 string"),
        ("CAST(«TIMESTAMP '1969-12-31 23:59:59.5'» AS bigint)".into(), "-1 bigint"),
        ("CAST(INTERVAL 2 hours AS int)".into(), "7200 int"),
        ("CAST(«TIMESTAMP '2021-12-25 07:00:00'» - «DATE '2021-12-25'» AS int)".into(), "25200 int"),
        ("CAST(«DATE '2021-12-25'» - «DATE '2021-12-20'» AS int)".into(), "5 int"),
        ("CAST(«TIMESTAMP '2021-12-25 07:00:00'» - «'2021-12-25T07:00:00+01:00'» AS int)".into(), "3600 int"),
    ];
    let examples: Vec<_> = examples.iter().map(|(e, v)| (e.as_str(), *v)).collect();
    check("UTC", &examples).await;
}

#[tokio::test]
async fn the_session_clock_counts() {
    check(
        "Europe/Paris",
        &[
            ("CAST(«'2021-12-25 07:00:00'» AS timestamp)", "2021-12-25T06:00:00Z timestamp"),
            ("CAST(«TIMESTAMP '2021-12-25 00:30:00'» AS date)", "2021-12-25 date"),
            ("CAST(«TIMESTAMP '2021-12-25 07:00:00+00:00'» AS string)", "2021-12-25 08:00:00 string"),
            ("CAST(«DATE '2021-12-25'» AS timestamp)", "2021-12-24T23:00:00Z timestamp"),
            ("hour(«TIMESTAMP '2021-12-25 07:00:00Z'»)", "8 int"),
            ("date_trunc('day', «TIMESTAMP '2021-12-25 07:00:00Z'»)", "2021-12-24T23:00:00Z timestamp"),
            (
                // Three of the letter X are Spark's pattern for an offset with a colon, no mark of something unfinished.
                "date_format(«TIMESTAMP '2021-12-25 07:00:00Z'», 'yyyy-MM-dd HH:mm VV XXX')",
                "2021-12-25 08:00 Europe/Paris +01:00 string",
            ),
            ("to_timestamp(«'25/12/2021 08:00'», 'dd/MM/yyyy HH:mm')", "2021-12-25T07:00:00Z timestamp"),
            ("to_date(«TIMESTAMP '2021-12-24 23:30:00Z'»)", "2021-12-25 date"),
        ],
    )
    .await;
}
