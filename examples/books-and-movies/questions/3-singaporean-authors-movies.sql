-- How many movies based on books by Singaporean authors were streamed that month, December 2021 at +01:00?
SELECT
  COUNT(DISTINCT s.movie_title) AS streamed_movies
FROM stream.streams s
JOIN vendor.books b ON b.name = s.movie_title
JOIN vendor.authors a ON a.name = b.author
WHERE array_contains(a.nationality_labels, 'singaporeans')
  AND s.start_at >= to_timestamp('2021-12-01T00:00:00.000+0100')
  AND s.start_at < to_timestamp('2022-01-01T00:00:00.000+0100')
