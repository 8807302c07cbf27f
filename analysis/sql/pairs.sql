-- One row per pair and dimension that were judged in both orders: 1 the first side wins, -1 it loses,
-- 0 a tie. In each order the side wins that the mean over samples favours. Where the orders differ
-- (`order_bias`), it is a tie.
SELECT
    attempt_id,
    other_attempt_id,
    prefix,
    turn,
    item,
    other_reply,
    dimension,
    CASE WHEN ab = ba THEN ab ELSE 0 END AS result,
    ab <> ba AS order_bias
FROM (
    SELECT
        attempt_id,
        other_attempt_id,
        any_value(prefix) AS prefix,
        any_value(turn) AS turn,
        any_value(item) AS item,
        any_value(other_reply) AS other_reply,
        dimension,
        sign(avg(value) FILTER (WHERE "order" = 'ab') - 0.5)::INT AS ab,
        sign(avg(value) FILTER (WHERE "order" = 'ba') - 0.5)::INT AS ba
    FROM judgements
    WHERE judge = {judge} AND annotator IS NULL AND status = 'valid'
    GROUP BY ALL
)
WHERE ab IS NOT NULL AND ba IS NOT NULL
