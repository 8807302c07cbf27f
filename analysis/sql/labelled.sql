-- One row per dialogue that a judge gave verdicts on, valid or not: `num` is 1 where people have
-- labelled everything that the judge was asked about it, else 0; `den` is 1.
WITH units AS (
    SELECT DISTINCT
        annotator IS NULL AS asked,
        attempt_id,
        other_attempt_id,
        other_reply,
        turn,
        item,
        dimension
    FROM judgements
    WHERE (judge = {judge} AND annotator IS NULL AND status <> 'failed')
        OR (judge = {people} AND annotator IS NOT NULL AND status = 'valid')
),
sides AS (
    SELECT asked, attempt_id AS side, * EXCLUDE (asked) FROM units
    UNION ALL
    SELECT asked, other_attempt_id AS side, * EXCLUDE (asked) FROM units
    WHERE other_attempt_id IS NOT NULL
)
SELECT side AS attempt_id, bool_and(labelled)::INT AS num, 1 AS den
FROM (
    SELECT * EXCLUDE (asked), bool_or(NOT asked) AS labelled
    FROM sides
    GROUP BY ALL
    HAVING bool_or(asked)
)
GROUP BY side
