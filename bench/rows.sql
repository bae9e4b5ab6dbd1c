-- Fills sync_executions with :rows executions as years of service leave them, through the table's own triggers, so that
-- counters and guards are as in service. The newest were recorded just now, the oldest :days ago (365 unless given).
--   psql "$DATABASE_URL" -v rows=10000000 -f bench/rows.sql
-- Of any number of rows 10 are cancelled, 10 are running (published and started: no relay takes them), 1 in 500 is a
-- backfill, 1 in 40 failed with one of a dozen kinds of message; one failure in the oldest tenth is of a kind of its own
-- ("snapshot too old"). The same :rows give the same rows, but for the times and the UIDs.
-- It is for databases made for measuring: secondary indexes are away while it loads.
\set ON_ERROR_STOP on
\set QUIET on
\if :{?days}
\else
    \set days 365
\endif
\pset tuples_only on
\timing off
SET synchronous_commit = off;
SET maintenance_work_mem = '1GB';
SELECT set_config('bench.rows', :'rows', false), set_config('bench.days', :'days', false) \g /dev/null

CREATE TEMPORARY TABLE secondary AS
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index WHERE indrelid = 'sync_executions'::regclass AND NOT indisunique;

DO $$
DECLARE
    rows   bigint := current_setting('bench.rows')::bigint;
    step   interval := make_interval(secs => current_setting('bench.days')::float8 * 86400 / rows);
    newest timestamptz := now();
    index  text;
    first  bigint;
BEGIN
    FOR index IN SELECT name FROM secondary LOOP
        EXECUTE 'DROP INDEX ' || index;
    END LOOP;
    FOR first IN SELECT generate_series(1, rows, 100000) LOOP
        INSERT INTO sync_executions
            (request_uid, namespace, name, mode, window_start, window_end, status, records_processed, duration_seconds,
             error_message, requested_by, reason, revision, created_at, updated_at, published_at, started_at, heartbeat_at,
             finished_at, finish_reason)
        SELECT gen_random_uuid(),
               'ingest-' || n % 20,
               CASE WHEN backfill THEN 'backfill-' ELSE 'update-' END || n,
               CASE WHEN backfill THEN 'backfill' ELSE 'update' END,
               date_trunc('minute', recorded) - CASE WHEN backfill THEN interval '6 hours' ELSE interval '15 minutes' END,
               date_trunc('minute', recorded),
               status,
               CASE status WHEN 'success' THEN n * 7919 % 4000 WHEN 'running' THEN n % 500 ELSE 0 END,
               CASE WHEN status IN ('success', 'error') THEN seconds END,
               CASE WHEN status = 'error' THEN message END,
               CASE WHEN backfill THEN 'analyst-' || n % 12 ELSE 'schedule' END,
               CASE WHEN backfill THEN 'gap reported on ' || to_char(recorded, 'YYYY-MM-DD') END,
               CASE status WHEN 'running' THEN 3 WHEN 'cancelled' THEN 2 ELSE 4 END,
               recorded,
               CASE WHEN status = 'cancelled' THEN recorded ELSE recorded + make_interval(secs => seconds + 0.2) END,
               CASE WHEN status <> 'cancelled' THEN recorded + interval '0.1 s' END,
               CASE WHEN status <> 'cancelled' THEN recorded + interval '0.2 s' END,
               CASE WHEN status <> 'cancelled' THEN recorded + make_interval(secs => seconds) END,
               CASE WHEN status = 'cancelled' THEN recorded
                    WHEN status <> 'running' THEN recorded + make_interval(secs => seconds + 0.2) END,
               CASE WHEN status = 'cancelled' THEN 'ObjectDeleted' END
        FROM (SELECT n, n % 500 = 250 AS backfill, newest - (rows - n) * step AS recorded,
                     CASE WHEN n > rows - 10 THEN 'running'
                          WHEN (n + rows / 20) % GREATEST(rows / 10, 1) = 0 THEN 'cancelled'
                          WHEN n % 40 = 7 THEN 'error'
                          ELSE 'success' END AS status,
                     round((2 + n * 6007 % 9000 / 100.0)::numeric, 2) AS seconds,
                     CASE WHEN n / 40 = rows / 800 THEN 'snapshot too old while reading contracts of ' || n
                          ELSE format(
                         (ARRAY['page %s: the source answered 503 after 5 attempts',
                                'page %s: the source answered 429, retry after 60 s',
                                'page %s: connection reset by peer',
                                'page %s: read timed out after 30 s',
                                'page %s: body is no JSON: expecting value at line 1 column 1',
                                'contract %s: duplicate key value violates unique constraint "contracts_pkey"',
                                'contract %s: null value in column "signed_on" violates not-null constraint',
                                'contract %s: value too long for type character varying(255)',
                                'supplier %s: checksum of the registration number is wrong',
                                'could not resolve the name of the source (try %s)',
                                'certificate verify failed: certificate has expired (try %s)',
                                'killed by signal 9 after %s MB'])[1 + n / 40 * 31 % 12], n * 104729 % 100000) END AS message
              FROM generate_series(first, LEAST(first + 99999, rows)) AS n) AS row
        ORDER BY n;
        COMMIT;
    END LOOP;
    FOR index IN SELECT definition FROM secondary ORDER BY name LOOP
        EXECUTE index;
    END LOOP;
END $$;

VACUUM (ANALYZE) sync_executions;
VACUUM (ANALYZE) sync_execution_counters;
SELECT status || ' ' || count(*) FROM sync_executions GROUP BY status ORDER BY count(*) DESC;
