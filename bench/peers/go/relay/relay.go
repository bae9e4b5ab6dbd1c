package relay

import (
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"
	amqp "github.com/rabbitmq/amqp091-go"
	"k8s.io/apimachinery/pkg/util/wait"

	"sync.pncp.io/sync-operator/bench/peers/go/store"
)

// How often to look for work that nobody announced.
const poll = 2 * time.Second

// Relay publishes what is recorded and not published. It runs on the leader only.
type Relay struct {
	Store     *store.Store
	Log       logr.Logger
	URL       string
	Queue     string
	Namespace string
	Zone      *time.Location
	// Window is how many messages wait for their confirms at a time.
	Window int
	wake   chan struct{}
	broker *publisher
}

// New makes a relay ready to be woken.
func New(relay Relay) *Relay {
	relay.wake = make(chan struct{}, 1)
	return &relay
}

// Wake tells that something was recorded.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// NeedLeaderElection makes the manager start it on the leader only.
func (r *Relay) NeedLeaderElection() bool { return true }

// Start runs until the context ends.
func (r *Relay) Start(ctx context.Context) error {
	defer func() { r.broker.close() }()
	fresh := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 15 * time.Second}
	backoff := fresh
	for ctx.Err() == nil {
		more, err := r.pass(ctx)
		pause := poll
		switch {
		case err != nil:
			pause = backoff.Step()
			r.Log.Error(err, "cannot publish; trying again", "wait", pause)
		case more:
			backoff = fresh
			continue
		default:
			backoff = fresh
		}
		r.rest(ctx, pause, err == nil)
	}
	return nil
}

// rest waits; only without trouble it is woken earlier.
func (r *Relay) rest(ctx context.Context, pause time.Duration, wakeable bool) {
	wake := r.wake
	if !wakeable {
		wake = nil
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	case <-wake:
	}
}

// pass publishes one batch; true when there may be more.
func (r *Relay) pass(ctx context.Context) (bool, error) {
	if !r.broker.isOpen() {
		r.broker.close()
		var err error
		if r.broker, err = connect(r.URL, r.Queue, r.Window); err != nil {
			return false, err
		}
	}
	claimed, err := r.Store.Claim(ctx, r.Window, r.Namespace)
	if err != nil || len(claimed) == 0 {
		return false, err
	}
	deliveries, messages, err := r.compose(ctx, claimed)
	if err != nil {
		return false, err
	}
	// What was sent is settled also while the program ends.
	settle := context.WithoutCancel(ctx)
	confirmed, failed := r.sort(deliveries, r.broker.publish(settle, messages))
	if err := r.mark(settle, confirmed); err != nil {
		return false, err
	}
	var trouble error
	for problem, failure := range failed {
		released := r.Store.Release(settle, failure.ids, problem, failure.err.Error())
		trouble = errors.Join(trouble, failure.err, released)
	}
	return len(claimed) == r.Window, trouble
}

// compose writes the messages; a window that cannot be told to the worker ends its row.
func (r *Relay) compose(ctx context.Context, claimed []store.Delivery) ([]store.Delivery, []amqp.Publishing, error) {
	deliveries := make([]store.Delivery, 0, len(claimed))
	messages := make([]amqp.Publishing, 0, len(claimed))
	for _, delivery := range claimed {
		composed, err := message(delivery, r.Zone)
		if err != nil {
			if err := r.Store.Fail(ctx, delivery.ID, "AmbiguousLocalTime", err.Error()); err != nil {
				return nil, nil, err
			}
			continue
		}
		deliveries, messages = append(deliveries, delivery), append(messages, composed)
	}
	return deliveries, messages, nil
}

type failure struct {
	ids []int64
	err error
}

func (r *Relay) sort(deliveries []store.Delivery, fates []error) ([]int64, map[string]failure) {
	confirmed := make([]int64, 0, len(deliveries))
	failed := map[string]failure{}
	for i, err := range fates {
		if err == nil {
			confirmed = append(confirmed, deliveries[i].ID)
			continue
		}
		problem := "BrokerUnavailable"
		if errors.Is(err, errReturned) {
			problem = "Unroutable"
		} else if errors.Is(err, errNacked) {
			problem = "Rejected"
		}
		failed[problem] = failure{append(failed[problem].ids, deliveries[i].ID), err}
	}
	return confirmed, failed
}

// mark tries for about as long as the claim holds: giving up means a second copy, with the same id.
func (r *Relay) mark(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	backoff := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8}
	return wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (bool, error) {
		err := r.Store.MarkPublished(ctx, ids)
		if err != nil {
			r.Log.Error(err, "cannot mark executions as published yet", "executions", len(ids))
		}
		return err == nil, nil
	})
}
