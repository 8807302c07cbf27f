-- What one judge says of each subject, in each dimension: the mean over its samples. A verdict that
-- is unparsed or failed is missing.
SELECT attempt_id, turn, item, dimension, avg(value) AS score
FROM judgements
WHERE judge = {judge} AND annotator IS NULL AND status = 'valid'
GROUP BY ALL
