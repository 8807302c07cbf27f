-- What one judge says of each unit, one label per row. Of several samples of a score it is the lower
-- median, which is on the scale. Of a pair it is as in `pairs`: 1, 0.5 or 0.
SELECT
    attempt_id, NULL AS other_attempt_id, NULL AS prefix, turn, item, NULL AS other_reply, dimension,
    quantile_disc(value, 0.5) AS value
FROM judgements
WHERE judge = {judge} AND annotator IS NULL AND status = 'valid' AND other_attempt_id IS NULL
GROUP BY ALL
UNION ALL
SELECT
    attempt_id, other_attempt_id, prefix, turn, item, other_reply, dimension,
    (1 + result) / 2 AS value
FROM ({pairs})
