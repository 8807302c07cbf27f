-- One row per attempt with a turn: what its last turn recommends and ranks (RSO, Table V).
-- recommends: a target is among the items shown. rank: the best 1-based place of a target in the
-- ranking, NULL without a target or a ranking.
SELECT
    t.attempt_id,
    coalesce(best_place(t.shown, e.targets) IS NOT NULL, false) AS recommends,
    coalesce(t.target_rank, best_place(t.ranking, e.targets)) AS rank
FROM turns t
JOIN episodes e USING (attempt_id)
WHERE t.turn = e.turns AND t.turn > 0
