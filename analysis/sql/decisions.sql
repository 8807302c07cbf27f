-- One row per decision: was it right? Right is to recommend with a target in the would-be list, or to
-- ask without one. The would-be list is as long as what may be shown. NULL where an asking agent's
-- list is not known.
SELECT
    attempt_id,
    CASE
        WHEN action = 'recommend' OR known
            THEN (action = 'recommend') = coalesce(place <= shown_items, false)
    END AS correct
FROM (
    SELECT
        t.attempt_id,
        t.action,
        e.shown_items,
        t.ranking IS NOT NULL AS known,
        CASE
            WHEN t.ranking IS NULL THEN best_place(t.shown, e.targets)
            ELSE best_place(t.ranking, e.targets)
        END AS place
    FROM turns t
    JOIN episodes e USING (attempt_id)
    WHERE t.turn BETWEEN 1 AND {turn} AND t.action IN ('recommend', 'ask')
)
