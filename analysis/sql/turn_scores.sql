-- One row per attempt: the mean over its turns of each turn's score, which is its mean over `dimensions`.
SELECT attempt_id, avg(score) AS score
FROM (
    SELECT attempt_id, turn, avg(score) AS score
    FROM ({scores})
    WHERE dimension IN ({dimensions})
    GROUP BY ALL
)
GROUP BY ALL
