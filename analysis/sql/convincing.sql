-- One row per dialogue: whether an item was accepted, whether the last accepted one is a target
-- (`right_item`), and the dialogue's credibility: the mean over its turns, NULL without a verdict.
-- `fixed_sentences`: its agent says the same sentences whatever it recommends.
SELECT
    e.attempt_id,
    e.status = 'done' AND e.accepted_item IS NOT NULL AS accepted,
    coalesce(
        e.status = 'done' AND list_contains(e.targets, e.accepted_item), false
    ) AS right_item,
    v.score AS credibility,
    c.fixed_sentences
FROM episodes e
JOIN plan_cells c USING (cell)
LEFT JOIN ({turn_scores}) v ON v.attempt_id = e.attempt_id
