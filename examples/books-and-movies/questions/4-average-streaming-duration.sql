-- What is the average streaming duration?
-- Milliseconds, not CAST(end_at - start_at AS int): whole seconds lose half a second a session, and with it the second decimal.
SELECT
  COUNT(*) AS sessions,
  ROUND(AVG(unix_millis(end_at) - unix_millis(start_at)) / 60000, 6) AS average_minutes
FROM stream.streams
