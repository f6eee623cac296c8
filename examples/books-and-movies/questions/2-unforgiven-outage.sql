-- On 25 December, 07:00 to 12:00, a corrupt file of "Unforgiven" caused an outage. How many users had a session of it in
-- progress? The hours are those of the data's own offset, +01:00; a user with several sessions counts once.
SELECT
  COUNT(DISTINCT user_email) AS affected_users,
  COUNT(*) AS affected_sessions
FROM stream.streams
WHERE movie_title = 'unforgiven'
  AND start_at < to_timestamp('2021-12-25T12:00:00.000+0100')
  AND end_at > to_timestamp('2021-12-25T07:00:00.000+0100')
