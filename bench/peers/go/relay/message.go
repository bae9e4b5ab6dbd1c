// Package relay turns recorded rows into messages: claim, publish, mark. It alone speaks AMQP.
package relay

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"sync.pncp.io/sync-operator/bench/peers/go/store"
)

// Of every message on the work queue.
const (
	messageType = "sync.execution.requested"
	appID       = "sync-operator"
	contentType = "application/json"
)

type body struct {
	Mode      string `json:"mode"`
	Start     string `json:"data_ini,omitempty"`
	End       string `json:"data_fim,omitempty"`
	RequestID string `json:"request_id"`
}

func messageID(delivery store.Delivery) string {
	return fmt.Sprintf("%s/%d", delivery.UID, delivery.Attempt)
}

// message is what the worker reads. Equal deliveries give equal messages.
func message(delivery store.Delivery, zone *time.Location) (amqp.Publishing, error) {
	id := strconv.FormatInt(delivery.ID, 10)
	content := body{Mode: delivery.Mode, RequestID: id}
	if delivery.Mode == "backfill" && delivery.WindowStart != nil && delivery.WindowEnd != nil {
		var err error
		if content.Start, err = localTime(*delivery.WindowStart, zone); err != nil {
			return amqp.Publishing{}, err
		}
		if content.End, err = localTime(*delivery.WindowEnd, zone); err != nil {
			return amqp.Publishing{}, err
		}
	}
	bytes, err := json.Marshal(content)
	if err != nil {
		return amqp.Publishing{}, err
	}
	return amqp.Publishing{
		ContentType:   contentType,
		DeliveryMode:  amqp.Persistent,
		MessageId:     messageID(delivery),
		CorrelationId: id,
		Type:          messageType,
		AppId:         appID,
		Timestamp:     delivery.CreatedAt,
		Body:          bytes,
	}, nil
}

// localTime is the worker's wall clock, without offset. A time that happened twice cannot be told.
func localTime(instant time.Time, zone *time.Location) (string, error) {
	const layout = "2006-01-02T15:04:05"
	text := instant.In(zone).Format(layout)
	for _, other := range []time.Duration{-time.Hour, time.Hour} {
		if instant.Add(other).In(zone).Format(layout) == text {
			return "", fmt.Errorf("%s happened twice in %s, and the worker cannot be told which is meant", text, zone)
		}
	}
	return text, nil
}
