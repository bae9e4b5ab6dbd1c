// The main peer of the benchmark: what sync-operator does, as controller-runtime does it. See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	// For machines that have no time zones.
	_ "time/tzdata"

	"k8s.io/apimachinery/pkg/runtime"
	kubernetes "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"sync.pncp.io/sync-operator/bench/peers/go/api"
	"sync.pncp.io/sync-operator/bench/peers/go/controller"
	"sync.pncp.io/sync-operator/bench/peers/go/relay"
	"sync.pncp.io/sync-operator/bench/peers/go/store"
)

const queue = "ingest.pncp"

func main() {
	ctrl.SetLogger(zap.New())
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	settings, err := load()
	if err != nil {
		return err
	}
	manager, err := newManager(settings)
	if err != nil {
		return err
	}
	// Each reconcile needs a connection for a moment; the relay needs one beside them.
	record, err := store.Open(ctx, settings.databaseURL, int32(settings.limits.concurrency)+2)
	if err != nil {
		return err
	}
	defer record.Close()

	relay := relay.New(relay.Relay{
		Store: record, Log: ctrl.Log.WithName("relay"), URL: settings.rabbitmqURL, Queue: queue,
		Namespace: settings.namespace, Zone: settings.zone, Window: settings.limits.window,
	})
	changed := make(chan event.GenericEvent)
	listener := &controller.Listener{Store: record, Client: manager.GetClient(), Namespace: settings.namespace, Changed: changed}
	reconciler := &controller.Reconciler{
		Client: manager.GetClient(), Store: record, Recorded: relay.Wake, Concurrency: settings.limits.concurrency,
	}
	if err := reconciler.SetupWithManager(manager, changed); err != nil {
		return err
	}
	if err := manager.Add(relay); err != nil {
		return err
	}
	if err := manager.Add(listener); err != nil {
		return err
	}
	return manager.Start(ctx)
}

func newManager(settings settings) (ctrl.Manager, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = settings.limits.qps, settings.limits.burst
	scheme := runtime.NewScheme()
	if err := errors.Join(kubernetes.AddToScheme(scheme), api.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	options := ctrl.Options{
		Scheme: scheme,
		// Nobody reads managed fields here, and they are a third of an object.
		Cache:                         cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Metrics:                       server.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              "go-peer.sync.pncp.io",
		LeaderElectionNamespace:       settings.namespace,
		LeaderElectionReleaseOnCancel: true,
	}
	if settings.namespace == "" {
		options.LeaderElectionNamespace = "default"
	} else {
		options.Cache.DefaultNamespaces = map[string]cache.Config{settings.namespace: {}}
	}
	return ctrl.NewManager(config, options)
}
