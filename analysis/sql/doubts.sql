-- What simulated users recorded against themselves, one row per attempt that has any of it:
-- `first_leak`, the first turn whose words named a title that had to stay unsaid (0 is the opening);
-- `wrong_accept`, the turn that accepted although the targets said no; `disagreed`, whether a
-- decision differed from what the targets said. Most turns record neither, and a search for text
-- rules those out in a quarter of the time that reading JSON takes. Ids are hashed, for memory: among
-- a million attempts two hashes are equal once in 40 million folders.
SELECT
    attempt,
    min(turn) FILTER (WHERE leak) AS first_leak,
    min(turn) FILTER (WHERE disagrees AND user_decision = 'accept') AS wrong_accept,
    bool_or(disagrees) AS disagreed
FROM (
    SELECT
        hash(attempt_id) AS attempt,
        turn,
        user_decision,
        coalesce(user_extra ->> '$.leak' = 'true', false) AS leak,
        coalesce(user_extra ->> '$.disagrees' = 'true', false) AS disagrees
    FROM turns
    WHERE contains(user_extra, '"leak":true') OR contains(user_extra, '"disagrees":true')
)
WHERE leak OR disagrees
GROUP BY attempt
