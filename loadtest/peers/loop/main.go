// An outbox relay as teams write it: pgx and franz-go, a poll and a DELETE. Idempotent producer, acks=all.
//
// DATABASE_URL, KAFKA_BROKERS, KAFKA_TOPIC, POLL (10ms)
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

const batch = 1000

// relay moves one batch in one transaction; returns how many events it had.
func relay(ctx context.Context, db *pgx.Conn, kafka *kgo.Client) (int, error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback(context.Background())
	rows, err := tx.Query(ctx, "SELECT id, aggregateid, payload FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED", batch)
	if err != nil {
		return 0, err
	}
	var ids []int64
	var records []*kgo.Record
	for rows.Next() {
		var id int64
		var key string
		var payload []byte
		if err := rows.Scan(&id, &key, &payload); err != nil {
			return 0, err
		}
		ids = append(ids, id)
		records = append(records, &kgo.Record{Key: []byte(key), Value: payload})
	}
	if err := rows.Err(); err != nil || len(ids) == 0 {
		return 0, err
	}
	if err := kafka.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM outbox WHERE id = ANY($1)", ids); err != nil {
		return 0, err
	}
	return len(ids), tx.Commit(ctx)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	poll, err := time.ParseDuration(os.Getenv("POLL"))
	if err != nil {
		poll = 10 * time.Millisecond
	}
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	kafka, err := kgo.NewClient(kgo.SeedBrokers(os.Getenv("KAFKA_BROKERS")), kgo.DefaultProduceTopic(os.Getenv("KAFKA_TOPIC")),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MaxBufferedRecords(2*batch))
	if err != nil {
		log.Fatal(err)
	}
	defer kafka.Close()
	for ctx.Err() == nil {
		n, err := relay(ctx, db, kafka)
		if err != nil && ctx.Err() == nil {
			log.Print(err)
		}
		if n == 0 {
			time.Sleep(poll)
		}
	}
}
