-- The attempts that another one of the same episode replaces: the earliest done one counts, so that
-- what a stray worker adds later changes nothing; if none is done, the latest failed one. Most
-- episodes have one attempt; the window, which is slow, sees only the others (`repeated`).
SELECT attempt_id
FROM attempts
SEMI JOIN repeated ON repeated.hashed = hash(episode_id)
QUALIFY row_number() OVER (
    PARTITION BY episode_id
    ORDER BY
        status = 'done' DESC,
        CASE WHEN status = 'done' THEN driver_epoch ELSE -driver_epoch END,
        CASE WHEN status = 'done' THEN ended ELSE -ended END,
        attempt_id
) > 1
