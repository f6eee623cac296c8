-- What percentage of the streamed movies are based on books?
-- A movie is based on a book of the same title. One row counts the movies that were streamed, one the whole catalogue.
WITH movies AS (
  SELECT 'streamed' AS scope, movie_title AS title FROM stream.streams
  UNION
  SELECT 'catalogue' AS scope, title FROM stream.movies
)
SELECT
  m.scope,
  COUNT(*) AS movies,
  COUNT(b.name) AS based_on_books,
  ROUND(COUNT(b.name) * CAST(100 AS double) / COUNT(*), 2) AS percentage
FROM movies m
LEFT JOIN vendor.books b ON b.name = m.title
GROUP BY m.scope
ORDER BY m.scope DESC
