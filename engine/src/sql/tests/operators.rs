use crate::sql::testing::check;

#[tokio::test]
async fn arithmetic_is_sparks() {
    check(
        "UTC",
        &[
            ("«3» / «2»", "1.5 double"),
            ("«2L» / «2L»", "1.0 double"),
            ("«6» / «0»", "null double"),
            ("«1.0e0» / «0»", "null double"),
            ("«'3'» / «2»", "1.5 double"),
            ("«7» % «3»", "1 int"),
            ("«-7» % «3»", "-1 int"),
            ("«7» % «0»", "null int"),
            ("«7» DIV «2»", "3 bigint"),
            ("«7» div «0»", "null bigint"),
            ("10 DIV 3 + 1", "4 bigint"),
            ("mod(«7», «3»)", "1 int"),
            ("pmod(«-7», «3»)", "2 int"),
            ("«1» + «2»", "3 int"),
            ("«1» + «2L»", "3 bigint"),
            ("«1» - «'2'»", "-1.0 double"),
            ("«'1'» + «'2'»", "3.0 double"),
            ("-«5»", "-5 int"),
            ("- 5", "-5 int"),
            ("«CAST('1.10' AS decimal(5,2))» * 2.5", "2.750 decimal(8,3)"),
            ("«CAST('1.10' AS decimal(5,2))» + 1", "2.10 decimal(6,2)"),
            ("«CAST('1.00' AS decimal(5,2))» = 1.0", "true boolean"),
            ("round(«2.5e0», 0)", "3.0 double"),
            ("round(«-2.5e0»)", "-3.0 double"),
            ("round(«722.266836e0», 2)", "722.27 double"),
            ("round(«1.005e0», 2)", "1.01 double"),
            ("round(«25», -1)", "30 int"),
            ("round(«CAST('2.345' AS decimal(5,3))», 2)", "2.35 decimal(5,2)"),
            ("floor(«-0.1e0»)", "-1 bigint"),
            ("ceil(«-0.1e0»)", "0 bigint"),
            ("ceiling(«5.1e0»)", "6 bigint"),
            ("abs(«-1»)", "1 int"),
            ("power(«2», «3»)", "8.0 double"),
            ("sqrt(«4»)", "2.0 double"),
            ("ln(«0»)", "null double"),
            ("log(«100e0»)", "4.605170185988092 double"),
            ("log(10, «100»)", "2.0 double"),
            ("log10(«1000»)", "3.0 double"),
            ("greatest(«1», «NULL», 3)", "3 int"),
            ("least(«4», 2)", "2 int"),
            ("sign(«-3»)", "-1.0 double"),
            ("e()", "2.718281828459045 double"),
        ],
    )
    .await;
}

#[tokio::test]
async fn comparisons_are_sparks() {
    check(
        "UTC",
        &[
            ("«1» <=> «1»", "true boolean"),
            ("«NULL» <=> NULL", "true boolean"),
            ("«1» <=> NULL", "false boolean"),
            ("«'10'» > «5»", "true boolean"),
            ("«'x'» > «5»", "null boolean"),
            ("«'10'» > «9.5e0»", "true boolean"),
            ("«5» == «5»", "true boolean"),
            ("«5» != «5»", "false boolean"),
            ("!(«5» = 5)", "false boolean"),
            ("«5» BETWEEN 1 AND «10»", "true boolean"),
            ("«'5'» NOT BETWEEN 1 AND 10", "false boolean"),
            ("«'7'» IN (7, 8)", "true boolean"),
            ("«'x'» IN (7, 8)", "false boolean"),
            ("«TIMESTAMP '2021-12-25 07:00:00'» >= to_timestamp('2021-12-25T07:00:00.000+0100')", "true boolean"),
            ("«TIMESTAMP '2021-12-25 07:00:00'» = «'2021-12-25T08:00:00+0100'»", "true boolean"),
            ("«TIMESTAMP '2021-12-25 00:00:00'» = «DATE '2021-12-25'»", "true boolean"),
            ("«TIMESTAMP '1500-01-01 00:00:00'» < «DATE '1500-01-02'»", "true boolean"),
            ("«DATE '2021-12-25'» > «'2021-12-24'»", "true boolean"),
            ("«TIMESTAMP '2021-12-26 08:00:00'» - «TIMESTAMP '2021-12-25 07:00:00'» > INTERVAL 1 day", "true boolean"),
            (
                "«TIMESTAMP '2021-12-26 06:00:00'» - «TIMESTAMP '2021-12-25 07:00:00'» > INTERVAL '1' DAY",
                "false boolean",
            ),
            ("«true» AND «NULL»", "null boolean"),
            ("«'true'» = «true»", "true boolean"),
            ("isnull(«NULL»)", "true boolean"),
            ("isnotnull(«1»)", "true boolean"),
            ("«'abc'» RLIKE '^a.c$'", "true boolean"),
            ("«'abc'» NOT RLIKE '\\\\d'", "true boolean"),
            ("«'abc'» LIKE 'a_c'", "true boolean"),
            (r"«'a%c'» LIKE 'a\\%c'", "true boolean"),
            (r"«'abc'» LIKE 'a\\%c'", "false boolean"),
            ("«'ABC'» ILIKE 'a%'", "true boolean"),
        ],
    )
    .await;
}

#[tokio::test]
async fn conditions_are_sparks() {
    check(
        "UTC",
        &[
            ("IF(«1» < 2, 'a', 'b')", "a string"),
            ("if(«NULL», 1, 2)", "2 int"),
            ("nvl(«NULL», array('2'))", "[2] array<string>"),
            ("nvl(«CAST(NULL AS int)», 5)", "5 int"),
            ("nvl2(«NULL», 2, 1)", "1 int"),
            ("ifnull(«CAST(NULL AS string)», 'x')", "x string"),
            ("nullif(«2», 2)", "null int"),
            ("coalesce(«NULL», 1, NULL)", "1 int"),
            ("CASE WHEN «1» > 0 THEN 1 WHEN «2» > 0 THEN 2.0 ELSE 1.2 END", "1.0 decimal(11,1)"),
            ("CASE «2» WHEN 1 THEN 'one' WHEN 2 THEN 'two' END", "two string"),
            ("CASE WHEN «1» > 5 THEN 1 END", "null int"),
        ],
    )
    .await;
}
