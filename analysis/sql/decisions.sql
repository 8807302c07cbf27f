-- One row a decision: was it right? Right is to recommend with a target in the would-be list, or to
-- ask without one. The would-be list is as long as what may be shown. Unknown lists give no row.
SELECT
    t.attempt_id,
    t.turn,
    CASE
        WHEN t.action = 'recommend'
            THEN list_has_any(coalesce(t.ranking, t.shown)[:e.shown_items], e.targets)
        ELSE NOT list_has_any(t.ranking[:e.shown_items], e.targets)
    END AS correct
FROM turns t
JOIN episodes e USING (attempt_id)
WHERE t.turn BETWEEN 1 AND {turn}
  AND (t.action = 'recommend' OR (t.action = 'ask' AND t.ranking IS NOT NULL))
