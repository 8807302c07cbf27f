-- What the viewer keeps in memory: an episode's attempt or a verdict a row, ids as hashes. A row is
-- visible in the snapshots since <= number < until.
CREATE TABLE listed (
    attempt_id VARCHAR NOT NULL,
    episode UBIGINT NOT NULL,
    transcript UBIGINT NOT NULL,
    place BIGINT NOT NULL,
    cell INTEGER NOT NULL,
    done BOOLEAN NOT NULL,
    success BOOLEAN NOT NULL,
    success_turn SMALLINT,
    turns SMALLINT NOT NULL,
    stop_reason VARCHAR NOT NULL,
    blame VARCHAR,
    error_class VARCHAR,
    tokens BIGINT NOT NULL,
    seconds FLOAT NOT NULL,
    ended DOUBLE NOT NULL,
    driver_epoch INTEGER NOT NULL,
    bundle_id VARCHAR NOT NULL,
    since UINTEGER NOT NULL,
    until UINTEGER NOT NULL
);
CREATE TABLE all_judgements (
    judgement_id UBIGINT NOT NULL,
    task_id UBIGINT NOT NULL,
    judging_id VARCHAR NOT NULL,
    episode_id UBIGINT NOT NULL,
    attempt_id VARCHAR,
    transcript_hash UBIGINT NOT NULL,
    other_episode_id UBIGINT,
    other_attempt_id VARCHAR,
    other_transcript_hash UBIGINT,
    turn SMALLINT,
    item VARCHAR,
    judge VARCHAR NOT NULL,
    judge_digest VARCHAR NOT NULL,
    dimension VARCHAR,
    sample SMALLINT NOT NULL,
    "order" VARCHAR,
    status VARCHAR NOT NULL,
    value DOUBLE,
    annotator VARCHAR,
    ended DOUBLE NOT NULL,
    bundle_id VARCHAR NOT NULL,
    driver_epoch INTEGER NOT NULL
);
CREATE VIEW episodes AS
SELECT
    attempt_id,
    episode AS episode_id,
    transcript AS transcript_hash,
    CASE WHEN done THEN 'done' ELSE 'failed' END AS status,
    cell
FROM listed
WHERE until = 4294967295;
