package controller

import (
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"sync.pncp.io/sync-operator/bench/peers/go/api"
	"sync.pncp.io/sync-operator/bench/peers/go/store"
)

// Listener brings changes of rows to the controller. It runs on the leader only.
type Listener struct {
	Store     *store.Store
	Client    client.Client
	Namespace string
	Changed   chan<- event.GenericEvent
}

// NeedLeaderElection makes the manager start it on the leader only.
func (l *Listener) NeedLeaderElection() bool { return true }

// Start listens until the context ends. After each gap all objects are looked at.
func (l *Listener) Start(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("listener")
	fresh := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 7, Cap: 10 * time.Second}
	backoff, first := fresh, true
	for ctx.Err() == nil {
		err := l.Store.Listen(ctx, func() {
			backoff = fresh
			// The controller's first list is on its way anyway.
			if !first {
				l.everything(ctx)
			}
			first = false
		}, func(payload string) { l.one(ctx, payload) })
		if ctx.Err() != nil {
			break
		}
		first = false
		log.Error(err, "cannot hear changes of rows; connecting again")
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Step()):
		}
	}
	return nil
}

func (l *Listener) one(ctx context.Context, payload string) {
	namespace, name, ok := strings.Cut(payload, "/")
	if ok && (l.Namespace == "" || l.Namespace == namespace) {
		l.send(ctx, namespace, name)
	}
}

func (l *Listener) everything(ctx context.Context) {
	var list api.SyncExecutionList
	if err := l.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list the cache")
		return
	}
	for i := range list.Items {
		l.send(ctx, list.Items[i].Namespace, list.Items[i].Name)
	}
}

func (l *Listener) send(ctx context.Context, namespace, name string) {
	object := &api.SyncExecution{}
	object.Namespace, object.Name = namespace, name
	select {
	case l.Changed <- event.GenericEvent{Object: object}:
	case <-ctx.Done():
	}
}
