-- One row per attempt: the best 1-based rank of a target in the last ranking that is known, or NULL.
SELECT
    t.attempt_id,
    coalesce(t.target_rank, best_place(t.ranking, e.targets)) AS rank
FROM turns t
JOIN episodes e USING (attempt_id)
JOIN (
    SELECT attempt_id, max(turn) AS turn FROM turns WHERE ranking IS NOT NULL GROUP BY attempt_id
) AS last ON last.attempt_id = t.attempt_id AND last.turn = t.turn
