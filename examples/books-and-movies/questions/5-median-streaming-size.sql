-- What is the median streaming size in GB (1 GB = 1,000 MB)?
SELECT
  ROUND(median(size_mb) / 1000, 6) AS median_gb
FROM stream.streams
