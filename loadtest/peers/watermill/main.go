// Watermill's forwarder component: messages of a Postgres table to Kafka, as its documentation sets it up.
//
// DATABASE_URL, KAFKA_BROKERS; the topic is in each message's envelope.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	logger := watermill.NewStdLogger(false, false)
	subscriber, err := sql.NewSubscriber(sql.BeginnerFromPgx(db), sql.SubscriberConfig{
		ConsumerGroup:    "forwarder",
		PollInterval:     10 * time.Millisecond,
		SchemaAdapter:    sql.DefaultPostgreSQLSchema{SubscribeBatchSize: 1000},
		OffsetsAdapter:   sql.DefaultPostgreSQLOffsetsAdapter{},
		InitializeSchema: true,
	}, logger)
	if err != nil {
		log.Fatal(err)
	}
	config := kafka.DefaultSaramaSyncPublisherConfig()
	config.Version = sarama.V2_1_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	publisher, err := kafka.NewPublisher(kafka.PublisherConfig{
		Brokers: []string{os.Getenv("KAFKA_BROKERS")},
		Marshaler: kafka.NewWithPartitioningMarshaler(func(topic string, m *message.Message) (string, error) {
			return m.Metadata.Get("partition_key"), nil
		}),
		OverwriteSaramaConfig: config,
	}, logger)
	if err != nil {
		log.Fatal(err)
	}
	f, err := forwarder.NewForwarder(subscriber, publisher, logger, forwarder.Config{ForwarderTopic: "outbox"})
	if err != nil {
		log.Fatal(err)
	}
	if err := f.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
