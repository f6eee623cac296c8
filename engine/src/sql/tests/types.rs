use crate::sql::testing::check;

#[tokio::test]
async fn literals_have_sparks_types() {
    check(
        "UTC",
        &[
            ("1.0", "1.0 decimal(2,1)"),
            ("1.50D", "1.5 double"),
            ("15e-1", "1.5 double"),
            ("2BD", "2 decimal(1,0)"),
            ("-7S", "-7 smallint"),
            ("7Y", "7 tinyint"),
            ("7L", "7 bigint"),
            ("1.5F", "1.5 float"),
            ("-9223372036854775808", "-9223372036854775808 bigint"),
            ("9223372036854775808", "9223372036854775808 decimal(19,0)"),
            ("hex(X'1F')", "1F string"),
            ("hex(x '10')", "10 string"),
            ("'\\u0041\\101\\x'", "AAx string"),
            ("r'\\d'", "\\d string"),
            ("'a' \"b\"", "ab string"),
        ],
    )
    .await;
}

#[tokio::test]
async fn values_get_a_type_in_common() {
    check(
        "UTC",
        &[
            ("coalesce(«CAST(NULL AS int)», 'x')", "x string"),
            ("nvl(«7», 'x')", "7 string"),
            ("ifnull(«DATE '2020-01-02'», '-')", "2020-01-02 string"),
            ("nvl2(«'x'», 1, 2.5)", "1.0 decimal(11,1)"),
            ("nvl2(«NULL», 1, 2L)", "2 bigint"),
            ("if(«true», 1, 'b')", "1 string"),
            ("CASE WHEN «false» THEN 1 ELSE 2.5 END / 2", "1.250000 decimal(16,6)"),
            ("CASE «'1'» WHEN 1 THEN 'one' END", "one string"),
            ("array(«1», 'a')", "[1, a] array<string>"),
            ("array(«1», 2.5)", "[1.0, 2.5] array<decimal(11,1)>"),
            ("map('a', «1», 'b', 2L)", "{a: 1, b: 2} map<string,bigint>"),
            ("greatest(«1», 2.5, 3L)", "3.0 decimal(21,1)"),
            ("least(«1.5e0», 2)", "1.5 double"),
            ("nullif(«1», 1.0)", "null int"),
            ("«1» IN ('1', 'x')", "true boolean"),
            ("«'x'» IN (7, 8)", "false boolean"),
            ("«DATE '2020-01-02'» IN ('2020-01-02')", "true boolean"),
            ("«1.5e0» = 1.5", "true boolean"),
            ("«0.1» = '0.10'", "true boolean"),
            ("«true» = 1", "true boolean"),
            ("equal_null(«NULL», 'a')", "false boolean"),
            ("«1» IS DISTINCT FROM «NULL» AND true", "true boolean"),
            ("«1» IS NOT DISTINCT FROM «1» AND false", "false boolean"),
        ],
    )
    .await;
}

#[tokio::test]
async fn decimals_are_computed_as_in_spark() {
    let wide = "CAST('90000000000000000000000000000000000000' AS decimal(38,0))";
    check(
        "UTC",
        &[
            ("0.1 + 0.2", "0.3 decimal(2,1)"),
            ("«1.0» / 3", "0.333333 decimal(7,6)"),
            ("«2.0» / «3.0»", "0.666667 decimal(8,6)"),
            ("-«2.0» / «3.0»", "-0.666667 decimal(8,6)"),
            ("«CAST(1 AS decimal(38,10))» / CAST(3 AS decimal(38,10))", "0.333333 decimal(38,6)"),
            ("«CAST('1.23' AS decimal(38,18))» * CAST('2.5' AS decimal(38,18))", "3.075000 decimal(38,6)"),
            ("«CAST('7.25' AS decimal(10,2))» % 2", "1.25 decimal(3,2)"),
            ("-«7.5» % 2", "-1.5 decimal(2,1)"),
            ("«7.5» DIV 2", "3 bigint"),
            ("«7.5» / 0", "null decimal(7,6)"),
            ("«7.5» % 0", "null decimal(2,1)"),
            ("«1.5e0» / «-0e0»", "null double"),
            ("«1.5e0» / -0e0", "null double"),
            ("«1.5e0» % «-0e0»", "null double"),
            ("«1» / «'-0'»", "null double"),
            ("mod(«1.5e0», «-0e0»)", "null double"),
            ("pmod(«1.5e0», «-0e0»)", "null double"),
            ("try_divide(«1.5e0», «-0e0»)", "null double"),
            ("nullifzero(«-0e0»)", "null double"),
            ("sqrt(«-1»)", "NaN double"),
            ("sqrt(«float(4)»)", "2.0 double"),
            ("exp(«float(0)»)", "1.0 double"),
            ("cbrt(«float(8)»)", "2.0 double"),
            ("«CAST(3 AS bigint)» * 1.5", "4.5 decimal(23,1)"),
            ("«1.5e0» * 1.5", "2.25 double"),
            ("«1.5» + '1'", "2.5 double"),
            (&format!("«{wide}» + «{wide}»"), "null decimal(38,0)"),
            (&format!("«{wide}» * 10"), "null decimal(38,0)"),
            (&format!("«{wide}» - 1"), "89999999999999999999999999999999999999 decimal(38,0)"),
            ("CAST(«1.005e0» AS decimal(10,2))", "1.01 decimal(10,2)"),
            ("CAST(«0.1e0 + 0.2e0» AS decimal(38,20))", "0.30000000000000004000 decimal(38,20)"),
            ("CAST(«12345678901234567.89» AS double)", "1.2345678901234568e16 double"),
            ("round(«2.5»)", "3 decimal(2,0)"),
            ("bround(«2.5»)", "2 decimal(2,0)"),
            ("bround(«-35», -1)", "-40 int"),
            ("ceil(«-0.1»)", "0 decimal(1,0)"),
            ("ceil(«3.1411», -3)", "1000 decimal(4,0)"),
            ("floor(«3.1411», 3)", "3.141 decimal(5,3)"),
        ],
    )
    .await;
}

#[tokio::test]
async fn floats_compare_as_in_spark() {
    check(
        "UTC",
        &[
            ("«double('NaN')» = «double('NaN')»", "true boolean"),
            ("«double('NaN')» > 1e300", "true boolean"),
            ("«-0.0D» = «0.0D»", "true boolean"),
            ("«-0.0D» = 0", "true boolean"),
            ("«-0.0D» < 0.0D", "false boolean"),
            ("«-0.0D» >= 0", "true boolean"),
            ("«0.0D» <= -0.0D", "true boolean"),
            ("«0.0D» > -0.0D", "false boolean"),
            ("0 < «-0.0D»", "false boolean"),
            ("«-0.0D» != 0", "false boolean"),
            ("«-0.0D» IN (0.0D, 1.0D)", "true boolean"),
            ("«-0.0D» <=> «0.0D»", "true boolean"),
        ],
    )
    .await;
}

#[tokio::test]
async fn intervals_are_sparks() {
    check(
        "UTC",
        &[
            ("CAST(«DATE '2020-01-31'» - «DATE '2020-01-01'» AS string)", "INTERVAL '30' DAY string"),
            ("CAST((«DATE '2020-01-31'» - «DATE '2020-01-01'») AS int)", "30 int"),
            ("«DATE '2020-01-01'» + («DATE '2020-01-31'» - «DATE '2020-01-01'»)", "2020-01-31 date"),
            (
                "«TIMESTAMP '2020-01-01 01:00:00'» - («DATE '2020-01-31'» - «DATE '2020-01-01'»)",
                "2019-12-02T01:00:00Z timestamp",
            ),
            ("«DATE '2020-01-31'» - «DATE '2020-01-01'» > INTERVAL 29 days", "true boolean"),
            ("INTERVAL 24 hours = INTERVAL 1 day", "true boolean"),
            ("extract(DAY FROM INTERVAL '5 03:07:08.5' DAY TO SECOND)", "5 int"),
            ("extract(HOURS FROM INTERVAL '5 03:07:08.5' DAY TO SECOND)", "3 tinyint"),
            ("extract(SECOND FROM INTERVAL '5 03:07:08.5' DAY TO SECOND)", "8.500000 decimal(8,6)"),
            ("date_part('MONTH', INTERVAL '3-7' YEAR TO MONTH)", "7 tinyint"),
            ("extract(YEAR FROM INTERVAL '3-7' YEAR TO MONTH)", "3 int"),
            ("extract(SECOND FROM «TIMESTAMP '2020-01-01 00:00:07.25'»)", "7.250000 decimal(8,6)"),
            ("second(«TIMESTAMP '2020-01-01 00:00:07.25'»)", "7 int"),
            ("INTERVAL '1-1' YEAR TO MONTH DIV INTERVAL '-1' MONTH", "-13 bigint"),
            ("«DATE '2020-01-31'» + INTERVAL 1 month", "2020-02-29 date"),
            ("«DATE '2020-01-31'» + INTERVAL 3 hours", "2020-01-31T03:00:00Z timestamp"),
            ("INTERVAL 3 days * 2 = INTERVAL 6 days", "true boolean"),
            ("INTERVAL 3 days / 2 = INTERVAL 36 hours", "true boolean"),
        ],
    )
    .await;
}
