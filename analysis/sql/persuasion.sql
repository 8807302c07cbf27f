-- One row per recommendation of which all three intentions are known, and Persuasiveness (DESIRE,
-- eq. 11), which is undefined where the facts leave the intention as it was by the name alone.
SELECT
    *,
    CASE WHEN i_true <> i_pre THEN 1 - (i_true - i_post) / (i_true - i_pre) END AS p
FROM (
    SELECT
        attempt_id,
        item,
        max(score) FILTER (WHERE dimension = 'pre') AS i_pre,
        max(score) FILTER (WHERE dimension = 'post') AS i_post,
        max(score) FILTER (WHERE dimension = 'true') AS i_true
    FROM ({scores})
    GROUP BY ALL
)
WHERE i_pre IS NOT NULL AND i_post IS NOT NULL AND i_true IS NOT NULL
