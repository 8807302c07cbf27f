-- What people said: one row a label. The first seven columns name the unit that was labelled: a turn,
-- an item, a dialogue, a pair of them, or a pair of replies.
SELECT
    attempt_id, other_attempt_id, prefix, turn, item, other_reply, dimension,
    judge, annotator, value
FROM judgements
WHERE annotator IS NOT NULL AND status = 'valid'
ORDER BY judge, dimension, annotator
