-- One row per dialogue: whether an item was accepted, and how persuasive the words for the last
-- accepted one were. `p` is NULL if nothing was accepted, if verdicts are missing, and if it is
-- undefined. A dialogue that the agent failed accepts nothing.
SELECT
    e.attempt_id,
    e.status = 'done' AND e.accepted_item IS NOT NULL AS accepted,
    v.p,
    v.attempt_id IS NOT NULL AS judged
FROM episodes e
LEFT JOIN ({persuasion}) v ON v.attempt_id = e.attempt_id AND v.item = e.accepted_item
