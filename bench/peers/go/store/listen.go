package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// How long a silent connection is trusted before it has to answer.
const listenIdle = 10 * time.Second

// Listen tells of each changed row until the connection breaks: changed gets the payload, namespace/name. Once it listens it
// calls ready: what changed before was not heard.
func (s *Store) Listen(ctx context.Context, ready func(), changed func(payload string)) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "LISTEN sync_executions"); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	ready()
	for {
		notification, err := wait(ctx, conn)
		switch {
		case err == nil:
			changed(notification.Payload)
		case ctx.Err() == nil && pgconn.Timeout(err) && !conn.IsClosed():
			if err := ping(ctx, conn); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
		default:
			return errors.Join(ctx.Err(), err)
		}
	}
}

func wait(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	ctx, cancel := context.WithTimeout(ctx, listenIdle)
	defer cancel()
	return conn.WaitForNotification(ctx)
}

func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return conn.Ping(ctx)
}
