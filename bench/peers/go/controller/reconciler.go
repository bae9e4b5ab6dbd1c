package controller

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"sync.pncp.io/sync-operator/bench/peers/go/api"
	"sync.pncp.io/sync-operator/bench/peers/go/store"
)

const (
	// How often an unfinished object is looked at without a notification.
	resync = 5 * time.Minute
	// When the cache lags behind the last write of ours.
	lag = 50 * time.Millisecond
	// How long a fresh row may go unshown: its confirm is on the way, and one write shows both.
	pendingGrace = time.Second
)

// Reconciler records SyncExecutions and shows their rows.
type Reconciler struct {
	client.Client
	Store *store.Store
	// Recorded is called after a new row was committed.
	Recorded func()
	// Concurrency is how many objects are reconciled at a time.
	Concurrency int
}

// SetupWithManager registers the controller; changed brings objects whose rows changed.
func (r *Reconciler) SetupWithManager(manager ctrl.Manager, changed <-chan event.GenericEvent) error {
	return ctrl.NewControllerManagedBy(manager).
		Named("syncexecution").
		// Our own status writes come back by the watch, and need no second look.
		For(&api.SyncExecution{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Channel(changed, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: r.Concurrency, ReconciliationTimeout: 30 * time.Second}).
		Complete(r)
}

// Reconcile makes one object recorded, and its status that of its row.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var object api.SyncExecution
	if err := r.Get(ctx, request.NamespacedName, &object); err != nil {
		if apierrors.IsNotFound(err) {
			return ctrl.Result{}, r.Store.CancelDeleted(ctx, request.Namespace, request.Name)
		}
		return ctrl.Result{}, err
	}
	if object.Status.Phase.Final() && object.Status.ObservedGeneration == object.Generation {
		return ctrl.Result{}, nil
	}
	row, err := r.record(ctx, &object)
	if errors.Is(err, store.ErrNotRecorded) {
		ctrl.LoggerFrom(ctx).Info("the row of this object is gone; it is not run again", "execution", object.Status.ExecutionID)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	if wait := pendingGrace - time.Since(row.CreatedAt); wait > 0 && phaseOf(row) == api.PhasePending {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	return r.show(ctx, &object, row)
}

// record returns the row. An object that shows an execution id was recorded once, and is never recorded again.
func (r *Reconciler) record(ctx context.Context, object *api.SyncExecution) (*store.Execution, error) {
	if object.Status.ExecutionID != "" || !object.DeletionTimestamp.IsZero() {
		return r.Store.ByUID(ctx, string(object.UID))
	}
	request := store.Request{
		UID: string(object.UID), Namespace: object.Namespace, Name: object.Name, Mode: object.Spec.Mode,
		RequestedBy: object.Spec.RequestedBy, Reason: object.Spec.Reason, ActiveDeadlineInSeconds: object.Spec.ActiveDeadlineSeconds,
	}
	if window := object.Spec.Window; window != nil {
		request.WindowStart, request.WindowEnd = &window.Start.Time, &window.End.Time
	}
	row, err := r.Store.Ensure(ctx, request)
	if errors.Is(err, store.ErrNotRecorded) {
		// Another writer recorded it at the very same moment.
		row, err = r.Store.ByUID(ctx, string(object.UID))
	}
	if err == nil && row.PublishedAt == nil {
		r.Recorded()
	}
	return row, err
}

// show writes the status if it differs. The resource version keeps it from a namesake and from a newer status.
func (r *Reconciler) show(ctx context.Context, object *api.SyncExecution, row *store.Execution) (ctrl.Result, error) {
	shown := object.DeepCopy()
	object.Status = statusOf(row, object.Generation)
	if shown.Status.Revision <= row.Revision && !equality.Semantic.DeepEqual(shown.Status, object.Status) {
		patch := client.MergeFromWithOptions(shown, client.MergeFromWithOptimisticLock{})
		err := r.Status().Patch(ctx, object, patch)
		switch {
		case apierrors.IsConflict(err):
			return ctrl.Result{RequeueAfter: lag}, nil
		case err != nil:
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
	}
	if object.Status.Phase.Final() {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: wait.Jitter(resync, 0.2)}, nil
}
