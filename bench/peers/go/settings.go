package main

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"time"
)

type settings struct {
	databaseURL string
	rabbitmqURL string
	namespace   string
	zone        *time.Location
	limits      limits
}

// limits are what PEER_LIMITS chooses.
type limits struct {
	qps         float32
	burst       int
	concurrency int
	window      int
}

// Without a client limit: controller-runtime sets none since 0.21, the server's priority and fairness is relied on.
const unlimited = -1

var presets = map[string]limits{
	"default": {qps: unlimited, concurrency: 10, window: 20},
	"lifted":  {qps: unlimited, concurrency: 32, window: 200},
}

func load() (settings, error) {
	name := cmp.Or(os.Getenv("PEER_LIMITS"), "default")
	chosen, known := presets[name]
	if !known {
		return settings{}, fmt.Errorf("PEER_LIMITS is %s: choose default or lifted", name)
	}
	if text := os.Getenv("PEER_QPS"); text != "" {
		qps, err := strconv.ParseFloat(text, 32)
		if err != nil {
			return settings{}, fmt.Errorf("PEER_QPS is %s: give a number", text)
		}
		chosen.qps, chosen.burst = float32(qps), int(qps*1.5)
	}
	zone, err := time.LoadLocation(cmp.Or(os.Getenv("WORKER_TIMEZONE"), "America/Cuiaba"))
	if err != nil {
		return settings{}, fmt.Errorf("WORKER_TIMEZONE: %w", err)
	}
	loaded := settings{
		databaseURL: os.Getenv("DATABASE_URL"),
		rabbitmqURL: os.Getenv("RABBITMQ_URL"),
		namespace:   os.Getenv("WATCH_NAMESPACE"),
		zone:        zone,
		limits:      chosen,
	}
	if loaded.databaseURL == "" || loaded.rabbitmqURL == "" {
		return settings{}, fmt.Errorf("DATABASE_URL and RABBITMQ_URL must be set")
	}
	return loaded, nil
}
