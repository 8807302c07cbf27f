-- The attempt that stands for each episode: the earliest done one, so that what a stray worker adds
-- later changes nothing; where none is done, the latest failed one.
SELECT attempt_id
FROM attempts
QUALIFY row_number() OVER (
    PARTITION BY episode_id
    ORDER BY
        status = 'done' DESC,
        CASE WHEN status = 'done' THEN driver_epoch ELSE -driver_epoch END,
        CASE WHEN status = 'done' THEN ended ELSE -ended END,
        attempt_id
) = 1
