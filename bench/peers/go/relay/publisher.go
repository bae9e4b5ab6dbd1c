package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	connectTimeout = 5 * time.Second
	// The client library has none for confirms: a broker short of memory or disk simply does not answer.
	confirmTimeout = 10 * time.Second
)

var (
	errReturned = errors.New("the broker returned the message: the queue is missing")
	errNacked   = errors.New("the broker refused the message")
)

// publisher is a connection with a channel in confirm mode.
type publisher struct {
	connection *amqp.Connection
	channel    *amqp.Channel
	returns    chan amqp.Return
	queue      string
}

// connect declares the queue as the worker does: durable, without arguments. At most window messages are in flight.
func connect(url, queue string, window int) (*publisher, error) {
	connection, err := amqp.DialConfig(url, amqp.Config{
		Heartbeat: 10 * time.Second,
		Dial: func(network, address string) (net.Conn, error) {
			return net.DialTimeout(network, address, connectTimeout)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	channel, err := open(connection, queue)
	if err != nil {
		_ = connection.Close()
		return nil, err
	}
	// A return comes before its confirm; with room for a whole window the reader never waits for us.
	returns := channel.NotifyReturn(make(chan amqp.Return, window))
	return &publisher{connection, channel, returns, queue}, nil
}

func open(connection *amqp.Connection, queue string) (*amqp.Channel, error) {
	channel, err := connection.Channel()
	if err != nil {
		return nil, fmt.Errorf("open a channel: %w", err)
	}
	if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		return nil, fmt.Errorf("declare queue %s: %w", queue, err)
	}
	if err := channel.Confirm(false); err != nil {
		return nil, fmt.Errorf("turn on confirms: %w", err)
	}
	return channel, nil
}

func (p *publisher) isOpen() bool { return p != nil && !p.channel.IsClosed() }

func (p *publisher) close() {
	if p != nil {
		_ = p.connection.CloseDeadline(time.Now().Add(time.Second))
	}
}

// publish sends the messages and waits for all confirms. One error per message, nil for what the broker has on its disk.
func (p *publisher) publish(ctx context.Context, messages []amqp.Publishing) []error {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	fates := make([]error, len(messages))
	confirms := make([]*amqp.DeferredConfirmation, len(messages))
	for i, message := range messages {
		confirms[i], fates[i] = p.channel.PublishWithDeferredConfirmWithContext(ctx, "", p.queue, true, false, message)
	}
	for i, confirm := range confirms {
		if fates[i] != nil {
			continue
		}
		acked, err := confirm.WaitContext(ctx)
		switch {
		case err != nil:
			fates[i] = fmt.Errorf("no confirm in time: %w", err)
		case !acked:
			fates[i] = errNacked
			if p.channel.IsClosed() {
				fates[i] = errors.New("the connection broke before the confirm")
			}
		}
	}
	p.take(messages, fates)
	return fates
}

// take finds returned messages by their ids: a returned message is acked, too.
func (p *publisher) take(messages []amqp.Publishing, fates []error) {
	for {
		select {
		case returned, ok := <-p.returns:
			if !ok {
				return
			}
			for i := range messages {
				if messages[i].MessageId == returned.MessageId {
					fates[i] = errReturned
				}
			}
		default:
			return
		}
	}
}
