use crate::sql::testing::{check, failure, plain, query};

#[tokio::test]
async fn texts_are_read_as_times() {
    check(
        "UTC",
        &[
            ("to_timestamp(«'2016-12-31 00:12:00'»)", "2016-12-31T00:12:00Z timestamp"),
            ("to_timestamp(«'2016-12-31'», 'yyyy-MM-dd')", "2016-12-31T00:00:00Z timestamp"),
            ("to_timestamp(«'2021-12-25T07:00:00.000+0100'»)", "2021-12-25T06:00:00Z timestamp"),
            (
                "to_timestamp(«'2021-12-25T07:00:00.000+0100'», \"yyyy-MM-dd'T'HH:mm:ss.SSSZ\")",
                "2021-12-25T06:00:00Z timestamp",
            ),
            ("to_timestamp(«'foo'»)", "null timestamp"),
            ("to_timestamp(«'foo'», 'yyyy')", "null timestamp"),
            ("to_timestamp(«DATE '2021-12-25'»)", "2021-12-25T00:00:00Z timestamp"),
            ("try_to_timestamp(«'2016-12-31'»)", "2016-12-31T00:00:00Z timestamp"),
            ("to_date(«'2009-07-30 04:17:52'»)", "2009-07-30 date"),
            ("to_date(«'2016-12-31'», 'yyyy-MM-dd')", "2016-12-31 date"),
            ("to_date(«'31.12.2016'», 'dd.MM.yyyy')", "2016-12-31 date"),
            ("to_date(«TIMESTAMP '2016-12-31 23:59:59'»)", "2016-12-31 date"),
            ("to_date(«'x'»)", "null date"),
            ("date(«'2009-07-30'»)", "2009-07-30 date"),
            ("timestamp(«'2009-07-30'»)", "2009-07-30T00:00:00Z timestamp"),
            ("unix_timestamp(«'2016-04-08'», 'yyyy-MM-dd')", "1460073600 bigint"),
            ("unix_timestamp(«'2016-04-08 00:00:00'»)", "1460073600 bigint"),
            ("unix_timestamp(«TIMESTAMP '2016-04-08 00:00:00'»)", "1460073600 bigint"),
            ("to_unix_timestamp(«DATE '2016-04-08'»)", "1460073600 bigint"),
            ("unix_seconds(«TIMESTAMP '1970-01-01 00:00:01Z'»)", "1 bigint"),
            ("unix_millis(«TIMESTAMP '1970-01-01 00:00:01Z'»)", "1000 bigint"),
            ("unix_micros(«TIMESTAMP '1970-01-01 00:00:01Z'»)", "1000000 bigint"),
            ("unix_date(«DATE '1970-01-02'»)", "1 int"),
            ("timestamp_seconds(«1230219000»)", "2008-12-25T15:30:00Z timestamp"),
            ("timestamp_millis(«1230219000123»)", "2008-12-25T15:30:00.123Z timestamp"),
            ("timestamp_micros(«1230219000123123»)", "2008-12-25T15:30:00.123123Z timestamp"),
            ("from_unixtime(«0», 'yyyy-MM-dd HH:mm:ss')", "1970-01-01 00:00:00 string"),
            ("from_unixtime(«0»)", "1970-01-01 00:00:00 string"),
            ("date_format(«'2016-04-08'», 'y')", "2016 string"),
            ("date_format(«DATE '2016-04-08'», 'EEEE dd MMM yyyy')", "Friday 08 Apr 2016 string"),
            ("make_date(«2013», 7, 15)", "2013-07-15 date"),
        ],
    )
    .await;
}

#[tokio::test]
async fn parts_of_times() {
    check(
        "UTC",
        &[
            ("year(«'2016-07-30'»)", "2016 int"),
            ("quarter(«'2016-08-31'»)", "3 int"),
            ("month(«DATE '2016-07-30'»)", "7 int"),
            ("day(«'2009-07-30'»)", "30 int"),
            ("dayofmonth(«TIMESTAMP '2009-07-30 01:00:00'»)", "30 int"),
            ("dayofweek(«'2009-07-30'»)", "5 int"),
            ("weekday(«'2009-07-30'»)", "3 int"),
            ("dayofyear(«'2016-04-09'»)", "100 int"),
            ("weekofyear(«'2008-02-20'»)", "8 int"),
            ("hour(«'2009-07-30 12:58:59'»)", "12 int"),
            ("minute(«'2009-07-30 12:58:59'»)", "58 int"),
            ("second(«'2009-07-30 12:58:59'»)", "59 int"),
            ("hour(«DATE '2009-07-30'»)", "0 int"),
            ("extract(YEAR FROM «TIMESTAMP '2019-08-12 01:00:00.123456'»)", "2019 int"),
            ("extract(week FROM «TIMESTAMP '2019-08-12 01:00:00.123456'»)", "33 int"),
            ("extract(doy FROM «DATE '2019-08-12'»)", "224 int"),
            ("extract(DAYOFWEEK FROM «DATE '2019-08-12'»)", "2 int"),
            ("date_part('hours', «TIMESTAMP '2019-08-12 01:00:00.123456'»)", "1 int"),
            ("year(«CAST(NULL AS date)»)", "null int"),
            ("date_trunc('YEAR', «'2015-03-05T09:32:05.359'»)", "2015-01-01T00:00:00Z timestamp"),
            ("date_trunc('MM', «TIMESTAMP '2015-03-05 09:32:05.359'»)", "2015-03-01T00:00:00Z timestamp"),
            ("date_trunc('DD', «TIMESTAMP '2015-03-05 09:32:05.359'»)", "2015-03-05T00:00:00Z timestamp"),
            ("date_trunc('week', «DATE '2015-03-05'»)", "2015-03-02T00:00:00Z timestamp"),
            ("date_trunc('HOUR', «TIMESTAMP '2015-03-05 09:32:05.359'»)", "2015-03-05T09:00:00Z timestamp"),
            ("date_trunc('nonsense', «TIMESTAMP '2015-03-05 09:32:05.359'»)", "null timestamp"),
            ("trunc(«'2019-08-04'», 'week')", "2019-07-29 date"),
            ("trunc(«DATE '2019-08-04'», 'quarter')", "2019-07-01 date"),
            ("trunc(«'2009-02-12'», 'MM')", "2009-02-01 date"),
            ("trunc(«'2015-10-27'», 'YEAR')", "2015-01-01 date"),
        ],
    )
    .await;
}

#[tokio::test]
async fn arithmetic_of_times() {
    check(
        "UTC",
        &[
            ("date_add(«'2016-07-30'», 1)", "2016-07-31 date"),
            ("date_add(«DATE '2016-07-30'», «1L»)", "2016-07-31 date"),
            ("date_sub(«'2016-07-30'», 1)", "2016-07-29 date"),
            ("«DATE '2016-07-30'» + 1", "2016-07-31 date"),
            ("1 + «DATE '2016-07-30'»", "2016-07-31 date"),
            ("«DATE '2016-07-30'» - «1»", "2016-07-29 date"),
            ("datediff(«'2009-07-31'», «'2009-07-30'»)", "1 int"),
            ("date_diff(«'2009-07-30'», «TIMESTAMP '2009-07-31 10:00:00'»)", "-1 int"),
            ("add_months(«'2016-08-31'», 1)", "2016-09-30 date"),
            ("add_months(«DATE '2016-08-31'», -6)", "2016-02-29 date"),
            ("last_day(«'2009-01-12'»)", "2009-01-31 date"),
            ("next_day(«'2015-01-14'», 'TU')", "2015-01-20 date"),
            ("next_day(«'2015-01-14'», «'wednesday'»)", "2015-01-21 date"),
            ("next_day(«'2015-01-14'», «'Thurs'»)", "null date"),
            ("trunc(«'2019-08-04'», «'week'»)", "2019-07-29 date"),
            ("date_trunc(«'hour'», «TIMESTAMP '2021-12-25 07:10:00'»)", "2021-12-25T07:00:00Z timestamp"),
            ("date_trunc(«'era'», «TIMESTAMP '2021-12-25 07:10:00'»)", "null timestamp"),
            ("to_date(«2009»)", "2009-01-01 date"),
            ("to_date(«3»)", "null date"),
            ("«TIMESTAMP '2021-12-25 07:00:00'» + INTERVAL 7 days", "2022-01-01T07:00:00Z timestamp"),
            ("INTERVAL 1 hour + «TIMESTAMP '2021-12-25 07:00:00'»", "2021-12-25T08:00:00Z timestamp"),
            ("«TIMESTAMP '2021-12-25 07:00:00'» - INTERVAL '1' MONTH", "2021-11-25T07:00:00Z timestamp"),
            ("«TIMESTAMP '2021-12-25 07:00:00'» - INTERVAL 1 day 2 hours", "2021-12-24T05:00:00Z timestamp"),
            ("«TIMESTAMP '2021-12-25 07:00:00'» + INTERVAL '0 01:30:00' DAY TO SECOND", "2021-12-25T08:30:00Z timestamp"),
            ("«'2021-12-25 07:00:00'» + INTERVAL 1 day", "2021-12-26T07:00:00Z timestamp"),
            ("«DATE '2021-12-25'» + INTERVAL 1 month", "2022-01-25 date"),
            ("CAST(«TIMESTAMP '2021-12-26 07:00:00'» - «TIMESTAMP '2021-12-25 06:59:59'» AS int) / 60", "1440.0166666666667 double"),
            (
                "«TIMESTAMP '2021-12-25 07:00:00'» + («TIMESTAMP '2021-12-25 07:00:10'» - «TIMESTAMP '2021-12-25 07:00:00'»)",
                "2021-12-25T07:00:10Z timestamp",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_present_is_one_moment() {
    let state = plain("UTC");
    let sql = "SELECT current_timestamp = now() AND current_date() = to_date(current_timestamp()) AND now() > '2020-01-01' AS same,
                      current_timezone() AS zone, CAST(now() AS date) = current_date AS today, unix_timestamp() > 0 AS positive";
    assert_eq!(query(&state, sql).await, ["true | UTC | true | true"]);
}

#[tokio::test]
async fn wrong_calls_are_explained() {
    let state = plain("UTC");
    for (sql, expected) in [
        ("SELECT to_timestamp('x', 'YYYY') AS x", "the letters `YYYY` are not supported"),
        ("SELECT date_format(now(), 'e') AS x", "the letter `e` is not supported"),
        ("SELECT to_timestamp('x', 'E') AS x", "weekday or a quarter"),
        ("SELECT date_part('fortnight', now()) AS x", "no part `fortnight`"),
        ("SELECT year(1, 2) AS x", "`year` can't be called with 2 arguments"),
    ] {
        let error = failure(&state, sql).await;
        assert!(error.message.contains(expected), "{sql}: {error}");
    }
}
