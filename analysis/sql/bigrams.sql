-- One row per pair of neighbouring tokens of a recommender's message: attempt_id, turn, bigram. Tokens are
-- runs of letters and digits in lower case, and every other sign by itself.
SELECT attempt_id, turn, unnest(bigrams) AS bigram
FROM (
    SELECT
        attempt_id,
        turn,
        [tokens[i] || ' ' || tokens[i + 1] for i in range(1, len(tokens))] AS bigrams
    FROM (
        SELECT
            attempt_id,
            turn,
            regexp_extract_all(lower(agent_text), '[\p{L}\p{N}]+|[^\s\p{L}\p{N}]') AS tokens
        FROM turns
        WHERE turn > 0 AND agent_text IS NOT NULL
    )
)
