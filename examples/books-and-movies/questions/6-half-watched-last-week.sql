-- How many users watched at least 50 % of any movie in the last week of the month, the seven days up to its end at +01:00?
-- Half of a movie's minutes is a whole number of seconds, 30 for each, so whole seconds of the session decide exactly.
SELECT
  COUNT(DISTINCT s.user_email) AS users
FROM stream.streams s
JOIN stream.movies m ON m.title = s.movie_title
WHERE s.start_at >= to_timestamp('2022-01-01T00:00:00.000+0100') - INTERVAL 7 days
  AND s.start_at < to_timestamp('2022-01-01T00:00:00.000+0100')
  AND CAST(s.end_at - s.start_at AS int) >= m.duration_mins * 30
