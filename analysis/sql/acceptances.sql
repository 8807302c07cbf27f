-- The last acceptance of each dialogue: its turn, and whether the item costs more than the user's
-- budget. `over_budget` is NULL where the price is unknown, or the user does not record it.
SELECT
    attempt_id,
    turn,
    CASE user_extra ->> '$.over_budget' WHEN 'true' THEN true WHEN 'false' THEN false END
        AS over_budget
FROM turns
WHERE user_decision = 'accept'
QUALIFY row_number() OVER (PARTITION BY attempt_id ORDER BY turn DESC) = 1
