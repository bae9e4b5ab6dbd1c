// Package store holds every SQL statement on sync_executions. The rules for rows are in the table's triggers.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ClaimSeconds is how long a claim holds if its relay dies: longer than publishing a batch can take.
const ClaimSeconds = 20

// ErrNotRecorded is returned for an object whose row is not there.
var ErrNotRecorded = errors.New("no such execution")

// Request is what a SyncExecution asks for.
type Request struct {
	UID, Namespace, Name    string
	Mode                    string
	WindowStart, WindowEnd  *time.Time
	RequestedBy, Reason     *string
	ActiveDeadlineInSeconds *int64
}

// Execution is a row.
type Execution struct {
	ID               int64
	Mode             string
	WindowStart      *time.Time
	WindowEnd        *time.Time
	Status           string
	RecordsProcessed int64
	DurationSeconds  *float64
	ErrorMessage     *string
	Revision         int64
	CreatedAt        time.Time
	UpdatedAt        time.Time
	PublishProblem   *string
	PublishMessage   *string
	PublishFailedAt  *time.Time
	PublishedAt      *time.Time
	StartedAt        *time.Time
	FinishedAt       *time.Time
	FinishReason     *string
}

const columns = `id, mode, window_start, window_end, status, COALESCE(records_processed, 0)::bigint, duration_seconds::float8,
	error_message, revision, created_at, updated_at, publish_problem, publish_message, publish_failed_at, published_at,
	started_at, finished_at, finish_reason`

// Delivery is a claimed row, with all that its message says.
type Delivery struct {
	ID          int64
	UID         string
	Attempt     int32
	Mode        string
	WindowStart *time.Time
	WindowEnd   *time.Time
	CreatedAt   time.Time
}

// Store is the record of executions.
type Store struct {
	pool *pgxpool.Pool
}

// Open makes a pool of at most so many connections. It connects when it is first used.
func Open(ctx context.Context, url string, connections int32) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a connection string of PostgreSQL")
	}
	config.MaxConns = connections
	config.ConnConfig.ConnectTimeout = 3 * time.Second
	config.ConnConfig.RuntimeParams["statement_timeout"] = "10000"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	return &Store{pool}, nil
}

// Close ends the pool.
func (s *Store) Close() { s.pool.Close() }

// Ensure records the request unless its UID is recorded already, and returns the row. Repeats draw no id.
func (s *Store) Ensure(ctx context.Context, request Request) (*Execution, error) {
	rows, _ := s.pool.Query(ctx, `
		WITH added AS (
			INSERT INTO sync_executions
				(request_uid, namespace, name, mode, window_start, window_end, requested_by, reason, deadline_at)
			SELECT $1::uuid, $2::text, $3::text, $4::text, $5::timestamptz, $6::timestamptz, $7::text, $8::text,
				now() + make_interval(secs => $9::bigint::double precision)
			WHERE NOT EXISTS (SELECT FROM sync_executions WHERE request_uid = $1::uuid)
			ON CONFLICT (request_uid) DO NOTHING
			RETURNING *)
		SELECT `+columns+` FROM added
		UNION ALL
		SELECT `+columns+` FROM sync_executions WHERE request_uid = $1::uuid`,
		request.UID, request.Namespace, request.Name, request.Mode, request.WindowStart, request.WindowEnd,
		request.RequestedBy, request.Reason, request.ActiveDeadlineInSeconds)
	return one(rows, "record execution")
}

// ByUID reads the row of a SyncExecution.
func (s *Store) ByUID(ctx context.Context, uid string) (*Execution, error) {
	rows, _ := s.pool.Query(ctx, "SELECT "+columns+" FROM sync_executions WHERE request_uid = $1", uid)
	return one(rows, "look up execution")
}

func one(rows pgx.Rows, what string) (*Execution, error) {
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[Execution])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotRecorded
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return row, nil
}

// CancelDeleted ends what was not published when its SyncExecution was deleted. A claimed row is left to its relay.
func (s *Store) CancelDeleted(ctx context.Context, namespace, name string) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE sync_executions SET deleted_at = now(), status = 'cancelled', finish_reason = 'ObjectDeleted', claimed_until = NULL
		WHERE namespace = $1 AND name = $2 AND status = 'running' AND published_at IS NULL
			AND (claimed_until IS NULL OR claimed_until < now())`, namespace, name)
	if err != nil {
		return fmt.Errorf("cancel execution: %w", err)
	}
	return nil
}

// Claim takes up to limit unpublished rows, oldest first, for ClaimSeconds. Two relays never get the same one.
func (s *Store) Claim(ctx context.Context, limit int, namespace string) ([]Delivery, error) {
	rows, _ := s.pool.Query(ctx, `
		WITH claimed AS (
			UPDATE sync_executions AS execution SET claimed_until = now() + make_interval(secs => $2)
			FROM (
				SELECT id FROM sync_executions
				WHERE published_at IS NULL AND status = 'running' AND request_uid IS NOT NULL
					AND deleted_at IS NULL AND held_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
					AND ($3 = '' OR namespace = $3)
				ORDER BY id LIMIT $1
				FOR UPDATE SKIP LOCKED) AS free
			WHERE execution.id = free.id
			RETURNING execution.id, request_uid::text, attempt, mode, window_start, window_end, created_at)
		SELECT * FROM claimed ORDER BY id`, limit, ClaimSeconds, namespace)
	deliveries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Delivery])
	if err != nil {
		return nil, fmt.Errorf("claim executions: %w", err)
	}
	return deliveries, nil
}

// MarkPublished marks rows whose messages the broker confirmed. Marking twice is harmless.
func (s *Store) MarkPublished(ctx context.Context, ids []int64) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE sync_executions SET published_at = now(), claimed_until = NULL,
			publish_problem = NULL, publish_message = NULL, publish_failed_at = NULL
		WHERE id = ANY($1) AND published_at IS NULL`, ids)
	if err != nil {
		return fmt.Errorf("mark executions as published: %w", err)
	}
	return nil
}

// Release gives up claims, and notes why the messages are not out.
func (s *Store) Release(ctx context.Context, ids []int64, problem, message string) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE sync_executions SET claimed_until = NULL, publish_problem = $2, publish_message = $3, publish_failed_at = now()
		WHERE id = ANY($1) AND published_at IS NULL AND status = 'running'`, ids, problem, message)
	if err != nil {
		return fmt.Errorf("note a publish problem: %w", err)
	}
	return nil
}

// Fail ends a row whose window cannot be told to the worker.
func (s *Store) Fail(ctx context.Context, id int64, reason, message string) error {
	_, err := s.pool.Exec(ctx, `
		UPDATE sync_executions SET status = 'error', finish_reason = $2, error_message = $3, claimed_until = NULL
		WHERE id = $1 AND status = 'running'`, id, reason, message)
	if err != nil {
		return fmt.Errorf("end an execution as failed: %w", err)
	}
	return nil
}
