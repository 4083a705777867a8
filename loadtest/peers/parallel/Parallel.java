// Confluent's Parallel Consumer in KEY order, with a handler that does nothing, or sleeps. Prints what loadtest/peers/src/groups.c
// prints.
//
// Parallel BROKERS TOPIC GROUP WORKERS SLEEP_US

import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Parallel {
    static void say(String what) {
        System.out.printf(Locale.ROOT, "%s %.6f%n", what, System.nanoTime() / 1e9);
    }

    public static void main(String[] arguments) throws Exception {
        long sleepMs = Long.parseLong(arguments[4]) / 1000;
        var settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("group.id", arguments[2]);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("fetch.min.bytes", "65536");
        settings.put("fetch.max.wait.ms", "100");
        settings.put("max.poll.records", "2000");
        settings.put("session.timeout.ms", "10000");
        var consumer = new KafkaConsumer<byte[], byte[]>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
                .ordering(ParallelConsumerOptions.ProcessingOrder.KEY)
                .maxConcurrency(Integer.parseInt(arguments[3]))
                .consumer(consumer)
                .build();
        var processor = ParallelStreamProcessor.createEosStreamProcessor(options);
        processor.subscribe(List.of(arguments[1]), new ConsumerRebalanceListener() {
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {}

            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                say("assigned");
            }
        });
        var handled = new AtomicLong();
        processor.poll(context -> {
            if (sleepMs > 0) {
                try {
                    Thread.sleep(sleepMs);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            }
            handled.incrementAndGet();
        });
        for (long said = 0; ; Thread.sleep(20)) {
            long now = handled.get();
            if (said == 0 && now > 0)
                say("first");
            if (now != said)
                say("handled " + now);
            said = now;
        }
    }
}
