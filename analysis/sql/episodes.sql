-- The episodes of the plan: cells, seeds and cases that the manifest names, one attempt each.
SELECT a.* EXCLUDE (axes), c.cell, p.position{axes}
FROM attempts a
JOIN plan_cells c ON c.cell_id = a.cell_id
SEMI JOIN plan_repetitions r
    ON r.cell_id = a.cell_id
    AND r.seed = a.seed
    AND r.seed_training = a.seed_training
    AND r.seed_order = a.seed_order
JOIN cases p ON p.source_id = c.source_id AND p.case_id = a.case_id
{superseded}
