-- New attempts of the plan, from the rows `given`.
INSERT INTO listed
SELECT
    g.attempt_id,
    hash(g.episode_id),
    hash(g.transcript_hash),
    p.position * 2147483648 + r.repetition,
    c.cell,
    g.status = 'done',
    g.success,
    g.success_turn,
    g.turns,
    g.stop_reason,
    g.blame,
    g.error_class,
    greatest(g.agent_tokens, 0) + greatest(g.user_tokens, 0),
    g.ended - g.started,
    g.ended,
    g.driver_epoch,
    g.bundle_id,
    {number},
    4294967295
FROM given g
JOIN plan_cells c ON c.cell_id = g.cell_id
JOIN plan_repetitions r
    ON r.cell_id = g.cell_id
    AND r.seed = g.seed
    AND r.seed_training = g.seed_training
    AND r.seed_order = g.seed_order
JOIN places p ON p.source_id = c.source_id AND p.case_id = g.case_id
{unless}
