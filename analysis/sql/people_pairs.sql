-- What people said of each pair, as `pairs` has it of a judge: 1 the first side wins, -1 it loses, 0 a
-- tie, which is also where no label has more than half of the votes.
SELECT
    attempt_id,
    other_attempt_id,
    any_value(prefix) AS prefix,
    turn,
    any_value(item) AS item,
    any_value(other_reply) AS other_reply,
    dimension,
    CASE
        WHEN 2 * count(*) FILTER (WHERE value = 1) > count(*) THEN 1
        WHEN 2 * count(*) FILTER (WHERE value = 0) > count(*) THEN -1
        ELSE 0
    END AS result,
    false AS order_bias
FROM judgements
WHERE judge = {judge} AND annotator IS NOT NULL AND status = 'valid'
GROUP BY attempt_id, other_attempt_id, turn, dimension
