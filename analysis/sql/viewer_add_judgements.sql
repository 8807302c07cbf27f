-- New verdicts, from the rows `given`.
INSERT INTO all_judgements
SELECT
    hash(g.judgement_id),
    hash(g.task_id),
    g.judging_id,
    hash(g.episode_id),
    NULL,
    hash(g.transcript_hash),
    CASE WHEN g.other_episode_id IS NOT NULL THEN hash(g.other_episode_id) END,
    NULL,
    CASE WHEN g.other_transcript_hash IS NOT NULL THEN hash(g.other_transcript_hash) END,
    g.turn,
    g.item,
    g.judge,
    g.judge_digest,
    g.dimension,
    g.sample,
    g."order",
    g.status,
    g.value,
    g.annotator,
    g.ended,
    g.bundle_id,
    g.driver_epoch
FROM given g
{unless}
