-- One row a decision: was it right? Right is to recommend with a target in the would-be list, or to
-- ask without one. The would-be list is as long as what may be shown. NULL where an asking agent's
-- list is not known.
SELECT
    t.attempt_id,
    CASE
        WHEN t.action = 'recommend'
            THEN list_has_any(coalesce(t.ranking, t.shown)[:e.shown_items], e.targets)
        ELSE NOT list_has_any(t.ranking[:e.shown_items], e.targets)
    END AS correct
FROM turns t
JOIN episodes e USING (attempt_id)
WHERE t.turn BETWEEN 1 AND {turn} AND t.action IN ('recommend', 'ask')
