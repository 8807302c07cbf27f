-- Judgements of the plan's judges, and of annotators, on the dialogues in `episodes`: of each task the
-- earliest attempt that settled it, else the latest failed one. A failed task has one row, without a
-- dimension. `judge` is the label that the plan has for the judge now. `attempt_id` is the attempt in
-- `episodes`; the judge may have read another one with the same words.
SELECT j.* REPLACE (
    coalesce(p.title, j.judge) AS judge,
    e.attempt_id AS attempt_id,
    o.attempt_id AS other_attempt_id
)
FROM all_judgements j
LEFT JOIN plan_judges p ON p.judge_digest = j.judge_digest AND j.sample < p.samples
JOIN episodes e
    ON e.episode_id = j.episode_id AND e.transcript_hash = j.transcript_hash AND e.status = 'done'
LEFT JOIN episodes o
    ON o.episode_id = j.other_episode_id AND o.transcript_hash = j.other_transcript_hash
LEFT JOIN plan_pairs q ON q.title = p.title AND q.cell = e.cell AND q.other = o.cell
SEMI JOIN (
    SELECT first(judging_id ORDER BY
        status = 'failed',
        CASE WHEN status = 'failed' THEN -driver_epoch ELSE driver_epoch END,
        CASE WHEN status = 'failed' THEN -ended ELSE ended END
    ) AS judging_id
    FROM all_judgements
    GROUP BY task_id
) c ON c.judging_id = j.judging_id
WHERE (p.title IS NOT NULL OR j.annotator IS NOT NULL)
    AND (
        j.other_episode_id IS NULL
        OR j.annotator IS NOT NULL AND o.episode_id IS NOT NULL
        OR q.title IS NOT NULL
    )
