-- `scored`, where a success that is not clean is not a success; `known` says whether leaks were looked
-- for. A dialogue that ended before its first turn is known where others of its cell are.
SELECT
    s.* REPLACE (
        CASE
            WHEN s.first_leak < s.success_turn OR s.wrong_accept = s.success_turn THEN NULL
            ELSE s.success_turn
        END AS success_turn
    ),
    coalesce(r.known, bool_or(r.known) OVER (PARTITION BY s.cell)) AS known
FROM scored s
LEFT JOIN (
    SELECT
        attempt_id,
        bool_or(contains(user_extra, '"leak":') AND user_extra ->> '$.leak' IS NOT NULL) AS known
    FROM turns
    GROUP BY attempt_id
) AS r USING (attempt_id)
