-- Of the episodes that got an attempt in this snapshot, the attempts that another one replaces, by
-- the rule of superseded.sql, end here.
UPDATE listed SET until = {number}
WHERE until = 4294967295 AND attempt_id IN (
    SELECT attempt_id
    FROM listed
    SEMI JOIN (
        SELECT episode
        FROM listed
        SEMI JOIN (SELECT DISTINCT episode FROM listed WHERE since = {number}) n USING (episode)
        GROUP BY episode
        HAVING count(*) > 1
    ) r USING (episode)
    QUALIFY row_number() OVER (
        PARTITION BY episode
        ORDER BY
            done DESC,
            CASE WHEN done THEN driver_epoch ELSE -driver_epoch END,
            CASE WHEN done THEN ended ELSE -ended END,
            attempt_id
    ) > 1
)
