-- `pairs` from both sides: the results of each dialogue that took part.
SELECT attempt_id, dimension, result, order_bias FROM ({pairs})
UNION ALL
SELECT other_attempt_id, dimension, -result, order_bias FROM ({pairs})
