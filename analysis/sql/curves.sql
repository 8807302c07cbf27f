-- Training curves of the plan's artifacts: of one that was made again, the latest.
SELECT p.artifact, p.seed, c.series, c.step, c.value, c.artifact_key, c.digest
FROM all_curves c
JOIN plan_artifacts p ON p.artifact_key = c.artifact_key
QUALIFY c.driver_epoch = max(c.driver_epoch) OVER (PARTITION BY c.artifact_key)
